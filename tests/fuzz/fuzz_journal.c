/* fuzz_journal.c - the journal of a run.  A checksum guards every line, so the mutator changes a
 * line's JSON and signs it again; what is read must be exactly the intact lines before the first
 * bad one. */
#include "crc32c.h"
#include "fuzz.h"
#include "journal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The line with a right crc and this seq, or NULL when it is no object; caller frees. */
static char *sign(const char *line, size_t bytes, int64_t seq)
{
    char hex[9];
    json_doc *doc = NULL;
    if (json_parse(line, (int64_t)bytes, 0, "line", &doc, NULL) != SQZ_OK) return NULL;
    cJSON *record = cJSON_Duplicate(json_root(doc), 1);
    json_free(doc);
    char *text = NULL;
    if (cJSON_IsObject(record)) {
        cJSON_DeleteItemFromObjectCaseSensitive(record, "crc");
        if (seq >= 0) {
            cJSON_DeleteItemFromObjectCaseSensitive(record, "seq");
            cJSON_AddNumberToObject(record, "seq", (double)seq);
        }
        char *canonical = json_canonical(record);
        snprintf(hex, sizeof hex, "%08x", crc32c(canonical, strlen(canonical)));
        free(canonical);
        cJSON_AddStringToObject(record, "crc", hex);
        text = json_text(record, 0);
    }
    cJSON_Delete(record);
    return text;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size_t lines = 0, at = 0, which;
    for (size_t i = 0; i < size; i++) lines += data[i] == '\n';
    if (!lines || seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
    which = seed / 8 % lines;
    for (size_t i = 0; i < which; i++)
        at = (size_t)((uint8_t *)memchr(data + at, '\n', size - at) - data) + 1;
    size_t length = (size_t)((uint8_t *)memchr(data + at, '\n', size - at) - data) - at;
    size_t tail = size - at - length;
    uint8_t *line = malloc(max_size + 1);
    if (!line) return size;
    memcpy(line, data + at, length);
    length = LLVMFuzzerMutate(line, length, max_size);
    char *text = sign((char *)line, length, seed % 64 == 9 ? -1 : (int64_t)which);
    size_t n = text ? strlen(text) : 0;
    if (text && at + n + tail <= max_size) {
        size_t old = size - tail - at;
        memmove(data + at + n, data + at + old, tail);
        memcpy(data + at, text, n);
        size = at + n + tail;
    } else
        size = LLVMFuzzerMutate(data, size, max_size);
    free(text);
    free(line);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    journal *j = NULL;
    sqz_error err;
    if (journal_read(fuzz_file(data, size), &j, &err) != SQZ_OK) return 0;
    size_t at = 0;
    for (int64_t i = 0; i < journal_length(j); i++) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        if (!end || json_int(journal_record(j, i), "seq", -1) != i) abort();
        at = (size_t)(end - data) + 1;
    }
    journal_close(j);
    return 0;
}
