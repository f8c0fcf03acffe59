/* A binary heap of times whose members know their place. A place is promised to each batch and each
 * slot when it is made, so that a bound can always be set. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>

int agent_due_promise(struct due_heap *heap)
{
    if (heap->promised == heap->room) {
        size_t room = heap->room ? heap->room * 2 : 64;
        struct due **at = realloc(heap->at, room * sizeof *at);
        if (!at)
            return -ENOMEM;
        heap->at = at;
        heap->room = room;
    }
    heap->promised++;
    return 0;
}

void agent_due_break_promise(struct due_heap *heap) { heap->promised--; }

static void put_at(struct due_heap *heap, struct due *due, size_t place)
{
    heap->at[place - 1] = due;
    due->place = place;
}

static void rise(struct due_heap *heap, struct due *due)
{
    size_t place = due->place;
    while (place > 1 && mono_before(due->at, heap->at[place / 2 - 1]->at)) {
        put_at(heap, heap->at[place / 2 - 1], place);
        place /= 2;
    }
    put_at(heap, due, place);
}

static void sink(struct due_heap *heap, struct due *due)
{
    size_t place = due->place;
    for (;;) {
        size_t child = place * 2;
        if (child < heap->n && mono_before(heap->at[child]->at, heap->at[child - 1]->at))
            child++;
        if (child > heap->n || !mono_before(heap->at[child - 1]->at, due->at))
            break;
        put_at(heap, heap->at[child - 1], place);
        place = child;
    }
    put_at(heap, due, place);
}

void agent_due_clear(struct due_heap *heap, struct due *due)
{
    if (due->place == 0)
        return;
    struct due *last = heap->at[--heap->n];
    if (last != due) {
        put_at(heap, last, due->place);
        rise(heap, last);
        sink(heap, last);
    }
    due->place = 0;
}

void agent_due_set(struct due_heap *heap, struct due *due, mono_t at)
{
    if (due->place != 0 && due->at.ns == at.ns)
        return;
    agent_due_clear(heap, due);
    due->at = at;
    if (mono_is_never(at))
        return;
    put_at(heap, due, ++heap->n);
    rise(heap, due);
}

struct due *agent_due_first(const struct due_heap *heap) { return heap->n > 0 ? heap->at[0] : NULL; }
