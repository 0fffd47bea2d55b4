/* journal.h - an append-only file of JSON records, one a line, each with a checksum.
 *
 * Line: {"seq":N,"crc":"xxxxxxxx","type":...,...}\n  where crc is the CRC-32C of the line's canonical
 * JSON without the crc key.  A record is durable (fdatasync) when append returns.  Opening recognises a
 * torn, truncated or damaged tail, keeps the intact part, and cuts the file there before the first
 * append.  One writer: the file is locked (OFD lock); a second opener gets ERR_CONFLICT. */
#ifndef SQZ_JOURNAL_H
#define SQZ_JOURNAL_H
#include "error/error.h"
#include "json/json.h"

typedef struct journal journal;
/* Creates the file when absent.  *dropped (may be NULL): bytes of a damaged tail that were cut. */
sqz_status journal_open(const char *path, journal **out, int64_t *dropped, sqz_error *err);
/* Records in order, in memory. */
int64_t journal_length(const journal *);
const cJSON *journal_record(const journal *, int64_t i);
/* Takes ownership of record (an object with "type"); adds seq and crc. */
sqz_status journal_append(journal *, cJSON *record, sqz_error *err);
void journal_close(journal *);
/* Read-only, no lock. */
sqz_status journal_read(const char *path, journal **out, sqz_error *err);
#endif
