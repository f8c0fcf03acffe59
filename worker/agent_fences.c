/* Fences that wait until the end of the turn, so that what happened together is told together. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool follows(const struct fence_entry *last, const uint8_t *id, uint64_t first, uint32_t count, uint64_t epoch,
                    uint32_t attempt)
{
    const Wire__Fence *fence = &last->fence;
    return fence->first + fence->count == first && fence->epoch == epoch && fence->attempt == attempt
        && fence->first / WIRE_BLOCK == (first + count - 1) / WIRE_BLOCK && memcmp(last->id, id, WIRE_ID) == 0;
}

static int make_room(struct fence_list *list)
{
    if (list->n < list->room)
        return 0;
    size_t room = list->room ? list->room * 2 : 64;
    struct fence_entry *at = realloc(list->at, room * sizeof *at);
    if (!at)
        return -ENOMEM;
    list->at = at;
    Wire__Fence **pointers = realloc(list->pointers, room * sizeof *pointers);
    if (!pointers)
        return -ENOMEM;
    list->pointers = pointers;
    list->room = room;
    return 0;
}

int agent_fences_add(struct fence_list *list, const uint8_t *id, uint64_t first, uint32_t count, uint64_t epoch, uint32_t attempt)
{
    if (list->n > 0 && follows(&list->at[list->n - 1], id, first, count, epoch, attempt)) {
        list->at[list->n - 1].fence.count += count;
        return 0;
    }
    if (make_room(list) < 0)
        return -ENOMEM;
    struct fence_entry *entry = &list->at[list->n++];
    wire__fence__init(&entry->fence);
    entry->fence.first = first;
    entry->fence.count = count;
    entry->fence.epoch = epoch;
    entry->fence.attempt = attempt;
    memcpy(entry->id, id, WIRE_ID);
    return 0;
}

size_t agent_fences_cut(struct fence_list *list, size_t from, Wire__Fence ***ret)
{
    size_t n = list->n - from < WIRE_FENCES ? list->n - from : WIRE_FENCES;
    for (size_t i = 0; i < n; i++) {
        /* Set only now, since the entries move while the list grows. */
        list->at[from + i].fence.batch = wire_id_bytes(list->at[from + i].id);
        list->pointers[i] = &list->at[from + i].fence;
    }
    *ret = list->pointers;
    return n;
}

void agent_fences_release(struct fence_list *list)
{
    free(list->at);
    free(list->pointers);
    *list = (struct fence_list){0};
}
