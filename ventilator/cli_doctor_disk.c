/* A folder of a ventilator or a sink. Beside what the store checks of its own, everything is read as its owner would:
 * records through the codec and the ledger, frames against their columns; and what only all of it together can
 * show: that each task which was admitted is there, and that none has two verdicts. */
#include "ventilator/cli_doctor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1                 /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

#include "common/bug.h"
#include "common/store_inspect.h"
#include "proto/wire.h"
#include "ventilator/cli.h"
#include "ventilator/ledger.h"

#define LOW_SPACE (UINT64_C(10) << 30)
#define TOLD_MOST 20                     /* pieces of damage that are told one by one */

/* What the records say of a batch, and what its frames hold. */
struct patient {
    uint64_t number;
    char name[24];
    bool complete, forgotten, range;
    uint64_t admitted, next;             /* journal: how many tasks, and how far its frames reach without a gap */
    uint64_t recorded;                   /* results: the sum of the record's counts, once complete */
    uint64_t verdicts;                   /* … and how many verdicts the rows hold */
    uint8_t *settled;                    /* a bit for each task that has one */
    uint64_t room;                       /* tasks in it */
    UT_hash_handle hh;
};

struct examination {
    struct doctor *doctor;
    struct store_facts facts;
    struct ledger *ledger;               /* journal only */
    struct wire_arena *arena;
    struct patient *patients;
    uint64_t damages, open, batches, tombstones, bytes;
    bool no_memory;
};

/* ---- saying ---- */

static void damaged(struct examination *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void damaged(struct examination *self, const char *format, ...)
{
    char text[400];
    va_list args;
    if (self->damages++ >= TOLD_MOST)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    doctor_say(self->doctor, FINDING_FAIL, "%s", text);
}

static void on_damage(void *arg, const char *what)
{
    damaged(arg, "%s", what);
}

static struct patient *patient_of(struct examination *self, uint64_t number, bool make)
{
    struct patient *p;
    HASH_FIND(hh, self->patients, &number, sizeof number, p);
    if (p || !make)
        return p;
    p = calloc(1, sizeof *p);
    if (!p) {
        self->no_memory = true;
        return NULL;
    }
    p->number = number;
    snprintf(p->name, sizeof p->name, "number %" PRIu64, number);
    HASH_ADD(hh, self->patients, number, sizeof p->number, p);
    if (p->hh.tbl == NULL) {
        self->no_memory = true;
        free(p);
        return NULL;
    }
    return p;
}

/* ---- a ventilator's ---- */

/* A ledger is filled and asked, and never runs: nothing of this is called but notes. */
static int no_reply(void *arg, ledger_peer client, const Wire__Reply *message) { (void)arg, (void)client, (void)message; return 0; }
static uint64_t no_put(void *arg, const char *key, const void *value, size_t len) { (void)arg, (void)key, (void)value, (void)len; return 1; }
static uint64_t no_remove(void *arg, const char *key) { (void)arg, (void)key; return 1; }
static uint64_t no_remove_frames(void *arg, uint64_t batch) { (void)arg, (void)batch; return 1; }
static void no_random(void *arg, void *bytes, size_t len) { (void)arg; memset(bytes, 1, len); }
static void no_note(void *arg, int level, const char *event, const char *text) { (void)arg, (void)level, (void)event, (void)text; }

static struct ledger *make_ledger(void)
{
    struct ledger_ports ports = {.reply = no_reply, .put = no_put, .remove = no_remove, .remove_frames = no_remove_frames,
                                 .random = no_random, .note = no_note};
    struct ledger_config config = {.program = "doctor", .session = 1, .heartbeat = NS_PER_S, .loss_grace = NS_PER_S, .silence = NS_PER_S,
                                   .max_losses = 1, .max_payload = WIRE_PAYLOAD, .result_credit = 1, .cache_bytes = 1, .wall = wall_now()};
    boot_id(config.boot);
    return ledger_new(&config, &ports, mono_now());
}

static void journal_record(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct examination *self = arg;
    const ProtobufCMessage *message;
    struct patient *p;
    struct why why;
    if (ledger_restore(self->ledger, key, value, len, &why) < 0) {
        damaged(self, "record '%s': %s", key, why.text);
        return;
    }
    if (strncmp(key, "batch/", 6) == 0 && wire_read_any(self->arena, &wire__journal_batch__descriptor, value, len, &message, &why) == 0) {
        const Wire__JournalBatch *batch = (const Wire__JournalBatch *)message;
        if (!(p = patient_of(self, batch->number, true)))
            return;
        snprintf(p->name, sizeof p->name, "%.20s", batch->short_id);
        p->range = batch->options && batch->options->range;
    } else if (strncmp(key, "tally/", 6) == 0 && wire_read_any(self->arena, &wire__journal_tally__descriptor, value, len, &message, &why) == 0) {
        const Wire__JournalTally *tally = (const Wire__JournalTally *)message;
        if (!(p = patient_of(self, tally->number, true)))
            return;
        p->admitted = tally->admitted;
        p->complete = tally->complete;
    }
}

static void journal_frame(void *arg, const struct store_frame *frame)
{
    struct examination *self = arg;
    struct patient *p = patient_of(self, frame->batch, false);
    const Wire__Tasks *tasks;
    struct why why;
    self->bytes += frame->body.len;
    if (wire_read_tasks(self->arena, frame->head.data, frame->head.len, frame->body.len, &tasks, &why) < 0)
        damaged(self, "frame %" PRIu64 " of batch %s can't be read: %s", frame->number, p ? p->name : "?", why.text);
    else if (tasks->first != frame->first || tasks->count != frame->count)
        damaged(self, "frame %" PRIu64 " of batch %s holds other tasks than it says", frame->number, p ? p->name : "?");
    else if (!p)
        damaged(self, "frame %" PRIu64 " is of a batch, number %" PRIu64 ", that no record names", frame->number, frame->batch);
    else if (frame->first > p->next && !p->complete)
        damaged(self, "batch %s: the tasks from %" PRIu64 " to %" PRIu64 " are missing", p->name, p->next, frame->first - 1);
    if (p && frame->first + frame->count > p->next)
        p->next = frame->first + frame->count;
}

static void check_journal(struct examination *self)
{
    struct patient *p, *next;
    HASH_ITER(hh, self->patients, p, next) {
        self->batches++;
        self->open += !p->complete;
        if (!p->complete && !p->range && p->next < p->admitted)
            damaged(self, "batch %s: the tasks from %" PRIu64 " to %" PRIu64 " were admitted and are missing", p->name, p->next, p->admitted - 1);
    }
}

static void say_journal(struct examination *self)
{
    struct ledger_counts counts;
    ledger_count(self->ledger, &counts);
    doctor_say(self->doctor, FINDING_OK, "%" PRIu64 " batch%s, %" PRIu64 " of them open with %" PRIu64 " task%s to go (as far as the journal knows "
               "without its sink)", self->batches, self->batches == 1 ? "" : "es", self->open, counts.queued, counts.queued == 1 ? "" : "s");
}

/* ---- a sink's ---- */

static void results_batch(struct examination *self, const char *key, const Wire__SinkBatchRecord *record)
{
    struct patient *p = patient_of(self, record->number, false);
    if (p || record->number == 0 || record->batch.len != WIRE_ID) {
        damaged(self, "record '%s' is %s", key, p ? "the second one of its batch" : "not a batch");
        return;
    }
    if (!(p = patient_of(self, record->number, true)))
        return;
    snprintf(p->name, sizeof p->name, "%.20s", record->short_id);
    p->complete = record->complete;
    p->forgotten = record->forgotten;
    for (size_t i = 0; i < record->n_counts; i++)
        p->recorded += record->counts[i];
    if (p->complete && record->total && record->total->n != p->recorded)
        damaged(self, "batch %s is complete with %" PRIu64 " verdicts for %" PRIu64 " tasks", p->name, p->recorded, record->total->n);
}

static void results_record(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct examination *self = arg;
    bool is_batch = strncmp(key, "batch/", 6) == 0;
    const ProtobufCMessage *message;
    struct why why;
    if (!is_batch && strcmp(key, "meta") != 0)
        damaged(self, "record '%s' is none of a sink's", key);
    else if (wire_read_any(self->arena, is_batch ? &wire__sink_batch_record__descriptor : &wire__sink_record__descriptor, value, len, &message, &why) < 0)
        damaged(self, "record '%s' can't be read: %s", key, why.text);
    else if (is_batch)
        results_batch(self, key, (const Wire__SinkBatchRecord *)message);
}

static bool make_room(struct examination *self, struct patient *p, uint64_t tasks)
{
    if (tasks <= p->room)
        return true;
    uint64_t room = (tasks + tasks / 2 + 64) / 64 * 64;
    uint8_t *settled = realloc(p->settled, room / 8);
    if (!settled) {
        self->no_memory = true;
        return false;
    }
    memset(settled + p->room / 8, 0, (room - p->room) / 8);
    p->settled = settled;
    p->room = room;
    return true;
}

/* A verdict of each task from `first` on; with `bits`, of those whose bit is set. */
static void settle(struct examination *self, struct patient *p, uint64_t row, uint64_t first, uint64_t count, const ProtobufCBinaryData *bits)
{
    uint64_t twice = 0;
    if (count > WIRE_TASKS || first > WIRE_TASKS || !make_room(self, p, first + count))
        return;
    for (uint64_t i = 0; i < count; i++) {
        if (bits && (i / 8 >= bits->len || !(bits->data[i / 8] >> (i % 8) & 1)))
            continue;
        uint8_t *byte = &p->settled[(first + i) / 8], bit = (uint8_t)(1u << ((first + i) % 8));
        twice += (*byte & bit) != 0;
        *byte |= bit;
        p->verdicts++;
    }
    if (twice > 0)
        damaged(self, "batch %s: row %" PRIu64 " has verdicts of %" PRIu64 " tasks that have one already", p->name, row, twice);
}

static void results_frame(void *arg, const struct store_frame *frame)
{
    struct examination *self = arg;
    struct patient *p = patient_of(self, frame->batch, false);
    const Wire__Row *row;
    struct why why;
    self->bytes += frame->body.len;
    if (wire_read_row(self->arena, frame->head.data, frame->head.len, frame->body.len, &row, &why) < 0) {
        damaged(self, "row %" PRIu64 " of batch %s can't be read: %s", frame->number, p ? p->name : "?", why.text);
        return;
    }
    if (!p || p->forgotten) {
        damaged(self, "row %" PRIu64 " is of a batch, number %" PRIu64 ", that %s", frame->number, frame->batch, p ? "was purged" : "no record names");
        return;
    }
    if (row->report && row->report->kind == WIRE__RESULT_KIND__IS_VERDICT)
        settle(self, p, frame->number, row->report->fence->first, row->report->fence->count, row->fresh.len > 0 ? &row->fresh : NULL);
    for (size_t i = 0; row->closing && i < row->n_closed; i++)
        settle(self, p, frame->number, row->closed[i]->first, row->closed[i]->count, NULL);
    if (row->closing && row->closed_bitmap.len > 0)
        settle(self, p, frame->number, row->closing->span->first, row->closing->span->count, &row->closed_bitmap);
}

static void check_results(struct examination *self)
{
    struct patient *p, *next;
    HASH_ITER(hh, self->patients, p, next) {
        self->tombstones += p->forgotten;
        self->batches += !p->forgotten;
        self->open += !p->forgotten && !p->complete;
        if (p->complete && !p->forgotten && p->verdicts != p->recorded)
            damaged(self, "batch %s is complete with %" PRIu64 " verdicts, and its rows hold %" PRIu64, p->name, p->recorded, p->verdicts);
    }
}

static void say_results(struct examination *self)
{
    uint64_t verdicts = 0;
    struct patient *p, *next;
    HASH_ITER(hh, self->patients, p, next)
        verdicts += p->verdicts;
    doctor_say(self->doctor, FINDING_OK, "%" PRIu64 " batch%s, %" PRIu64 " of them not complete; %" PRIu64 " verdict%s, one for each task that has one; "
               "%" PRIu64 " batch%s purged", self->batches, self->batches == 1 ? "" : "es", self->open, verdicts, verdicts == 1 ? "" : "s",
               self->tombstones, self->tombstones == 1 ? "" : "es");
}

/* ---- all of it ---- */

static void size_text(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    int unit = 0;
    for (; size >= 1024 && unit < 4; unit++)
        size /= 1024;
    snprintf(out, 32, "%.*f %s", unit > 0, size, units[unit]);
}

static void say_file(struct examination *self, const char *role)
{
    const struct store_facts *f = &self->facts;
    char id[33], file[32], log[32];
    wire_id_hex(f->id, id);
    size_text(f->file_bytes, file);
    size_text(f->log_bytes, log);
    doctor_say(self->doctor, FINDING_OK, "%s/%s.db: %s, format %" PRIu32 ", records of version %" PRIu32 ", id %s", self->doctor->data, role,
               strcmp(role, "journal") == 0 ? "a ventilator's journal" : "a sink's results", f->format, f->version, id);
    doctor_say(self->doctor, FINDING_OK, "%s, %" PRIu64 " of %" PRIu64 " pages unused; %s of log; %" PRIu64 " records; %" PRIu64 " frames with %" PRIu64
               " bytes; %" PRIu64 " purges under way", file, f->free_pages, f->pages, log, f->records, f->frames, f->frame_bytes, f->purges);
    size_text(f->bulk_bytes, file);
    if (f->bulk_bytes > 0)
        doctor_say(self->doctor, FINDING_OK, "%s/%s.db-bulk: its large bodies, %s", self->doctor->data, role, file);
    if (!f->sums)
        doctor_say(self->doctor, FINDING_WARN, "format 1 has no checksums of its pages: damage of an index can be seen only here");
}

static int verdict(struct examination *self, const char *role)
{
    const char *dir = self->doctor->data;
    if (self->no_memory) {
        doctor_say(self->doctor, FINDING_FAIL, "no memory to look at all of %s/%s.db", dir, role);
        return CLI_NOT_OK;
    }
    uint64_t damages = self->damages + self->facts.damages - (self->facts.damages < TOLD_MOST ? self->facts.damages : TOLD_MOST);
    if (damages == 0) {
        doctor_say(self->doctor, FINDING_OK, "%s/%s.db is sound", dir, role);
        return CLI_OK;
    }
    doctor_say(self->doctor, FINDING_FAIL, "%s/%s.db is damaged in %" PRIu64 " place%s; restore the folder from a backup, or move it away to begin "
               "anew, and look after the disk", dir, role, damages, damages == 1 ? "" : "s");
    return EXIT_DISK;
}

static int examine(struct examination *self, const char *role)
{
    bool journal = strcmp(role, "journal") == 0;
    struct why why;
    struct store_look look = {
        .dir = self->doctor->data, .role = role, .version = journal ? WIRE_JOURNAL_VERSION : WIRE_RESULTS_VERSION,
        .record = journal ? journal_record : results_record, .frame = journal ? journal_frame : results_frame, .damage = on_damage, .arg = self,
    };
    switch (store_inspect(&look, &self->facts, &why)) {
    case STORE_BUSY:
        cli_refuse_usage(why.text);
        return EXIT_BUSY;
    case STORE_DISK:
        doctor_say(self->doctor, FINDING_FAIL, "%s", why.text);
        return EXIT_DISK;
    case STORE_OK:
        break;
    }
    say_file(self, role);
    /* Of what can't be read all, counts would mislead. */
    if (self->facts.damages == 0)
        (journal ? check_journal : check_results)(self);
    if (self->damages == 0)
        (journal ? say_journal : say_results)(self);
    return verdict(self, role);
}

static void release(struct examination *self)
{
    struct patient *p, *next;
    HASH_ITER(hh, self->patients, p, next) {
        HASH_DEL(self->patients, p);
        free(p->settled);
        free(p);
    }
    ledger_destroy(&self->ledger);
    wire_arena_destroy(&self->arena);
}

static int look_at(struct doctor *doctor, const char *role)
{
    struct examination self = {.doctor = doctor, .arena = wire_arena_new(), .ledger = make_ledger()};
    int code = CLI_NOT_OK;
    if (self.arena && self.ledger)
        code = examine(&self, role);
    else
        cli_refuse_usage("there is no memory left");
    release(&self);
    return code;
}

static void say_space(struct doctor *doctor)
{
    struct statvfs disk;
    char left[32], all[32];
    if (statvfs(doctor->data, &disk) < 0)
        return;
    uint64_t bytes = (uint64_t)disk.f_bavail * disk.f_frsize, of = (uint64_t)disk.f_blocks * disk.f_frsize;
    bool low = bytes < of / 20 && bytes < LOW_SPACE;
    size_text(bytes, left);
    size_text(of, all);
    doctor_say(doctor, low ? FINDING_WARN : FINDING_OK, "%s of %s are free where %s is%s", left, all, doctor->data,
               low ? "; make room, or purge batches: when the disk is full nothing new is taken in" : "");
}

int doctor_look_at_disk(struct doctor *self)
{
    static const char *const roles[] = {"journal", "results"};
    int worst = CLI_OK, found = 0;
    for (size_t i = 0; i < 2; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s.db", self->data, roles[i]);
        if (access(path, F_OK) < 0)
            continue;
        found++;
        int code = look_at(self, roles[i]);
        if (code != EXIT_BUSY)           /* whose one sentence says what to do first */
            say_space(self);
        worst = code > worst ? code : worst;
    }
    if (found == 0) {
        fprintf(stderr, "ventilator: the folder %s has neither journal.db nor results.db; name the one that was --data of a ventilator or a sink\n", self->data);
        return EXIT_DISK;
    }
    return worst;
}
