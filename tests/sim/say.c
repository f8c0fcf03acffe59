/* The trace: messages as a person reads them. */
#include "tests/sim/sim.h"

#include <stdio.h>

static size_t add_fences(char *out, size_t size, Wire__Fence **fences, size_t n)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, " %02x/%" PRIu64 "+%u@%" PRIu64 ".%u", fences[i]->batch.data[0], fences[i]->first,
                                fences[i]->count, fences[i]->epoch, fences[i]->attempt);
    return len;
}

static size_t add_spans(char *out, size_t size, Wire__Span **spans, size_t n)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, " %" PRIu64 "+%" PRIu64, spans[i]->first, spans[i]->count);
    return len;
}

void say_lane(struct world *w, const char *who, const Wire__Lane *m)
{
    char text[200];
    if (!w->tracing)
        return;
    switch (m->what_case) {
    case WIRE__LANE__WHAT_ASSIGN:
        trace(w, who, "< assign %02x/%" PRIu64 "+%u@%" PRIu64 ".%u tries_left=%u", m->assign->batch.data[0], m->assign->tasks->first,
              m->assign->tasks->count, m->assign->epoch, m->assign->attempt, m->assign->tries_left);
        break;
    case WIRE__LANE__WHAT_CANCEL:
        add_spans(text, sizeof text, m->cancel->tasks, m->cancel->n_tasks);
        trace(w, who, "< cancel #%" PRIu64 " %02x%s%s", m->cancel->number, m->cancel->batch.data[0], m->cancel->silent ? " silent" : "", text);
        break;
    case WIRE__LANE__WHAT_RELEASE:
        add_fences(text, sizeof text, m->release->fences, m->release->n_fences);
        trace(w, who, "< release%s", text);
        break;
    case WIRE__LANE__WHAT_RECALL:
        trace(w, who, "< recall #%" PRIu64 " %02x %u", m->recall->number, m->recall->batch.data[0], m->recall->count);
        break;
    default:
        trace(w, who, "< lane message %d", m->what_case);
    }
}

static void say_hello(struct world *w, const char *who, const Wire__WorkerHello *h)
{
    static const char *const states[] = {"queued", "running", "ended"};
    char text[200] = "";
    size_t len = 0;
    for (size_t i = 0; i < h->n_holdings && len < sizeof text; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, " %s", states[h->holdings[i]->state]);
        if (len < sizeof text)
            len += add_fences(text + len, sizeof text - len, &h->holdings[i]->fence, 1);
    }
    trace(w, who, "< hello of %s:%s", h->name, text);
}

void say_upward(struct world *w, const char *who, const Wire__Upward *m)
{
    char text[200];
    if (!w->tracing)
        return;
    switch (m->what_case) {
    case WIRE__UPWARD__WHAT_HELLO:
        say_hello(w, who, m->hello);
        break;
    case WIRE__UPWARD__WHAT_STARTED:
        add_fences(text, sizeof text, m->started->fences, m->started->n_fences);
        trace(w, who, "< lane %" PRIx64 " started%s", m->lane_epoch, text);
        break;
    case WIRE__UPWARD__WHAT_FINISHED:
        add_fences(text, sizeof text, m->finished->fences, m->finished->n_fences);
        trace(w, who, "< lane %" PRIx64 " finished%s", m->lane_epoch, text);
        break;
    case WIRE__UPWARD__WHAT_RETURNED:
        add_fences(text, sizeof text, m->returned->fences, m->returned->n_fences);
        trace(w, who, "< lane %" PRIx64 " returned cause=%d%s", m->lane_epoch, m->returned->cause, text);
        break;
    case WIRE__UPWARD__WHAT_CONFIRMED:
        trace(w, who, "< lane %" PRIx64 " confirmed #%" PRIu64 " dropped=%" PRIu64 " stopping=%" PRIu64, m->lane_epoch, m->confirmed->number,
              m->confirmed->dropped, m->confirmed->stopping);
        break;
    case WIRE__UPWARD__WHAT_HEARTBEAT:
        break;
    default:
        trace(w, who, "< upward message %d", m->what_case);
    }
}
