/* spool.h - the events of one tracker on disk, and how far it got.
 *
 *   spool/<name>.jsonl       append-only, a journal (registry/journal.h): record 0 says whose it is
 *                            ("type":"study", "agent", "with", "data"), every other one is an event
 *                            ("type": kind, "key", "time_ms", "data")
 *   spool/<name>.state.json  {"schema","delivered","text","rejected":[]}, written whole or not at
 * all; text is the tracker's own, so ids that a server gave out survive a crash
 *
 * An event with a key that is there already is left out, so the same fact may be offered twice.
 * Every function may be called from any thread. */
#ifndef SQZ_CORE_TRACKER_SPOOL_H
#define SQZ_CORE_TRACKER_SPOOL_H
#include "error/error.h"
#include "json/json.h"

typedef struct spool spool;
/* ERR_CONFLICT while another process has it open. */
sqz_status spool_open(const char *run_dir, const char *name, spool **out, sqz_error *err);
void spool_close(spool *);
int64_t spool_length(spool *);
/* Borrowed until close; records never change. */
const cJSON *spool_record(spool *, int64_t seq);
/* The newest record of a kind, or NULL. */
const cJSON *spool_last(spool *, const char *kind);
int spool_has(spool *, const char *key);
/* Takes ownership of record.  *added (may be NULL): 0 when the key was there already. */
sqz_status spool_append(spool *, cJSON *record, int *added, sqz_error *err);

/* Records below this number are delivered (or refused for good). */
int64_t spool_delivered(spool *);
sqz_status spool_acknowledge(spool *, int64_t delivered, sqz_error *err);
char *spool_text(spool *); /* malloc'd, or NULL */
sqz_status spool_save_text(spool *, const char *text, sqz_error *err);
/* Remembers an event that can never be delivered; the caller acknowledges it. */
void spool_reject(spool *, int64_t seq, const char *why);
int64_t spool_rejected(spool *);
#endif
