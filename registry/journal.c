/* journal.c - the write-ahead journal: one JSON record a line, checksummed, durable when append
 * returns.
 *
 * A record is intact when its line ends in '\n', parses strictly, has the next sequence number and
 * the right CRC-32C.  The first line that is not begins the damaged tail: nothing after it is
 * trusted, because records build on each other.  The tail is cut under the lock, before the first
 * append, so that merely looking at a journal never changes it.
 * Left out: snapshots (journals hold hundreds of records) and compaction. */
#include "journal.h"
#include "crc32c.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_JOURNAL ((int64_t)1 << 30)

struct journal {
    char *path;
    int fd;       /* -1 when opened to read only */
    int64_t end;  /* bytes of the intact part; the next record goes here */
    int64_t size; /* bytes of the file; more than end when a tail is to be cut */
    cJSON **records;
    int64_t n, room;
};

/* ---- one record ------------------------------------------------------------------------------ */

static void record_crc(const cJSON *record, char text[9])
{
    char *canonical = json_canonical(record);
    snprintf(text, 9, "%08x", crc32c(canonical, strlen(canonical)));
    free(canonical);
}

/* *record: of an intact line with this sequence number, else NULL.  Only a lack of memory is an
 * error: it says nothing about the line, which must not be taken for damaged. */
static sqz_status parse_line(const char *line, int64_t bytes, int64_t seq, cJSON **record,
                             sqz_error *err)
{
    json_doc *doc;
    *record = NULL;
    sqz_status st = json_parse(line, bytes, 0, "journal", &doc, err);
    if (st != SQZ_OK) return st == SQZ_E_NOMEM ? st : SQZ_OK;
    cJSON *copy = cJSON_Duplicate(json_root(doc), 1), *crc = NULL;
    json_free(doc);
    if (cJSON_IsObject(copy)) crc = cJSON_DetachItemFromObjectCaseSensitive(copy, "crc");
    char right[9] = "";
    if (crc) record_crc(copy, right);
    int intact = cJSON_IsString(crc) && !strcmp(crc->valuestring, right) &&
                 json_int(copy, "seq", -1) == seq && json_str(copy, "type", NULL);
    cJSON_Delete(crc);
    if (intact)
        *record = copy;
    else
        cJSON_Delete(copy);
    return SQZ_OK;
}

static sqz_status keep(journal *j, cJSON *record, sqz_error *err)
{
    if (j->n == j->room) {
        int64_t room = j->room ? j->room * 2 : 64;
        cJSON **more = realloc(j->records, (size_t)room * sizeof *more);
        if (!more) return err_set(err, SQZ_E_NOMEM, "%s: no memory for its records", j->path);
        j->records = more;
        j->room = room;
    }
    j->records[j->n++] = record;
    return SQZ_OK;
}

static sqz_status load(journal *j, sqz_error *err)
{
    char *text;
    sqz_status st = file_read(j->path, MAX_JOURNAL, &text, &j->size, err);
    if (st != SQZ_OK) return st;
    while (st == SQZ_OK && j->end < j->size) {
        const char *line = text + j->end;
        const char *stop = memchr(line, '\n', (size_t)(j->size - j->end));
        cJSON *record = NULL;
        if (stop) st = parse_line(line, stop - line, j->n, &record, err);
        if (!record) break;
        st = keep(j, record, err);
        if (st == SQZ_OK)
            j->end += stop - line + 1;
        else
            cJSON_Delete(record);
    }
    free(text);
    return st;
}

/* ---- opening --------------------------------------------------------------------------------- */

static sqz_status lock_file(journal *j, sqz_error *err)
{
    j->fd = open(j->path, O_RDWR | O_CLOEXEC);
    int created = j->fd < 0 && errno == ENOENT;
    if (created) j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (j->fd < 0)
        return err_set(err, ERR_STORAGE, "%s: cannot be opened: %s%s", j->path, strerror(errno),
                       file_room_hint(errno));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(j->fd, F_OFD_SETLK, &whole) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            return err_set(err, ERR_CONFLICT,
                           "%s: another process is writing it; wait for it, or stop it, then try "
                           "again",
                           j->path);
        return err_set(err, ERR_STORAGE, "%s: cannot be locked: %s", j->path, strerror(errno));
    }
    return created ? file_sync_parent(j->path, err) : SQZ_OK;
}

static journal *journal_alloc(const char *path)
{
    journal *j = calloc(1, sizeof *j);
    if (j) {
        j->path = path_format("%s", path);
        j->fd = -1;
    }
    return j;
}

sqz_status journal_open(const char *path, journal **out, int64_t *dropped, sqz_error *err)
{
    journal *j = journal_alloc(path);
    if (!j) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", path);
    sqz_status st = lock_file(j, err);
    if (st == SQZ_OK) st = load(j, err);
    if (st != SQZ_OK) {
        journal_close(j);
        return st;
    }
    if (dropped) *dropped = j->size - j->end;
    *out = j;
    return SQZ_OK;
}

sqz_status journal_read(const char *path, journal **out, sqz_error *err)
{
    journal *j = journal_alloc(path);
    if (!j) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", path);
    sqz_status st = load(j, err);
    if (st != SQZ_OK)
        journal_close(j);
    else
        *out = j;
    return st;
}

void journal_close(journal *j)
{
    if (!j) return;
    for (int64_t i = 0; i < j->n; i++) cJSON_Delete(j->records[i]);
    free(j->records);
    if (j->fd >= 0) close(j->fd); /* and with it the lock */
    free(j->path);
    free(j);
}

int64_t journal_length(const journal *j)
{
    return j->n;
}

const cJSON *journal_record(const journal *j, int64_t i)
{
    return i >= 0 && i < j->n ? j->records[i] : NULL;
}

/* ---- appending ------------------------------------------------------------------------------- */

/* {"seq":N,"crc":"...", then the record's own keys in their order. */
static char *print_line(cJSON *record, int64_t seq)
{
    char crc[9];
    cJSON_DeleteItemFromObjectCaseSensitive(record, "seq");
    cJSON_DeleteItemFromObjectCaseSensitive(record, "crc");
    cJSON *number = cJSON_AddNumberToObject(record, "seq", (double)seq);
    if (number) cJSON_InsertItemInArray(record, 0, cJSON_DetachItemViaPointer(record, number));
    record_crc(record, crc);
    char *body = json_text(record, 0); /* {"seq":N, ... */
    size_t head = strcspn(body, ",");
    char *line = path_format("%.*s,\"crc\":\"%s\"%s\n", (int)head, body, crc, body + head);
    free(body);
    return line;
}

static sqz_status write_line(journal *j, const char *line, sqz_error *err)
{
    int64_t bytes = (int64_t)strlen(line);
    if (j->size > j->end && ftruncate(j->fd, j->end) < 0)
        return err_set(err, ERR_STORAGE, "%s: its damaged end cannot be cut: %s", j->path,
                       strerror(errno));
    j->size = j->end;
    sqz_status st = file_pwrite(j->fd, j->path, line, bytes, j->end, err);
    if (st == SQZ_OK && fdatasync(j->fd) < 0)
        st = err_set(err, ERR_STORAGE, "%s: cannot be written: %s%s", j->path, strerror(errno),
                     file_room_hint(errno));
    if (st != SQZ_OK) {
        /* leave no half record; should this fail too, the next append or open cuts it */
        if (ftruncate(j->fd, j->end) < 0) j->size = j->end + bytes;
        return st;
    }
    j->size = j->end += bytes;
    return SQZ_OK;
}

sqz_status journal_append(journal *j, cJSON *record, sqz_error *err)
{
    if (j->fd < 0 || !cJSON_IsObject(record) || !json_str(record, "type", NULL)) {
        cJSON_Delete(record);
        return err_set(err, SQZ_E_INVALID, "%s: %s", j->path,
                       j->fd < 0 ? "opened to read only" : "a record needs a \"type\"");
    }
    char *line = print_line(record, j->n);
    /* What could not be read back (duplicate keys, nesting too deep) must not get in. */
    cJSON *back;
    sqz_status st = parse_line(line, (int64_t)strlen(line) - 1, j->n, &back, err);
    cJSON_Delete(record);
    if (st == SQZ_OK && !back)
        st = err_set(err, SQZ_E_INVALID, "%s: a record that is not valid JSON", j->path);
    else if (st == SQZ_OK)
        st = keep(j, back, err);
    if (st == SQZ_OK) {
        st = write_line(j, line, err);
        if (st != SQZ_OK) j->n--;
    }
    free(line);
    if (st != SQZ_OK) cJSON_Delete(back);
    return st;
}
