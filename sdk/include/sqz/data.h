/* sqz/data.h - data sources: a file of a format that sqz does not read itself, or a source that is
 * known by a name, becomes rows.
 *
 * An agent of kind "data/1" (since ABI 1.2).  `run` opens a source: it is called with the agent's
 * parameters and a sqz_source as subject.  Then the host calls next() of extension("sqz.data/1")
 * until there are no more rows.  `run` may be called again on the same instance: it begins anew,
 * and the same source with the same parameters gives the same rows.
 *
 * Rows are not trusted: the host checks names, texts and numbers and bounds what a row and a source
 * may hold (docs/data.md).  It keeps them as JSON lines under the hash of the source, the plugin
 * and the parameters, so a source is read once and evaluations, calibration and statistics read
 * that file.  What a row is good for follows from its fields as for every data set ({text},
 * {question, answer}, {messages}, ...). */
#ifndef SQZ_DATA_H
#define SQZ_DATA_H
#include <sqz/plugin.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SQZ_DATA_1 "sqz.data/1"

/* What is read.  Valid until `run` is called again or the instance is closed. */
typedef struct sqz_source {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;       /* the host's */
    const char *name; /* the file's name without its folder and without .gz or .zst; of a source
                         that is no file what the user wrote */
    const char *path; /* absolute, or NULL: no file or folder */
    const void *data; /* the whole file, unpacked, read-only; NULL: the source is no file */
    int64_t bytes;
} sqz_source;
SQZ_SEALED(sqz_source, bytes, 48);

/* The row that next() fills.  Texts are UTF-8 without zero bytes, names 1 to 200 bytes of it; both
 * are copied.  A failure is remembered by the host: pass it on. */
typedef struct sqz_row sqz_row;
struct sqz_row {
    uint32_t struct_size;
    uint32_t zero;
    void *impl;
    /* n < 0: up to the terminating zero.  [call] */
    sqz_status (*text)(const sqz_row *, const char *name, const char *text, int64_t n);
    sqz_status (*number)(const sqz_row *, const char *name, double value);
    /* One more element of the list `name`; its elements follow each other.  text NULL: none, the
     * list may be empty.  An element that is an object ({"role","content"} of `messages`) is its
     * JSON text.  [call] */
    sqz_status (*item)(const sqz_row *, const char *name, const char *text, int64_t n);
};
SQZ_SEALED(sqz_row, item, 40);

/* The source need not be a file: a folder, or a name that the plugin understands.  What such a
 * source holds is read anew each time. */
enum { SQZ_DATA_NAMED = 1u << 0 };

typedef struct sqz_data {
    uint32_t struct_size;
    uint32_t flags;
    const char *endings; /* of file names it is asked for without being named: ".wet|.warc.wet" in
                            lower case; NULL or "": none */
    /* A small source of its own format (at most 64 KiB) that gives rows with every default: what
     * `sqz plugin check` reads, shortens, repeats and damages.  With SQZ_DATA_NAMED and no endings
     * a name. */
    const char *example;
    int64_t example_bytes;
    /* Asked when no ending decides: 0 = not mine, up to 100 = surely; `first` are the first bytes
     * (at most 4096).  May be NULL.  [any] */
    int32_t (*probe)(const char *name, const void *first, int64_t n_first);
    /* Fills one row and sets *more to 1, or sets *more to 0 behind the last one.  The host looks
     * for a stop between rows; call tick() when one row takes long.  [call] */
    sqz_status (*next)(const sqz_host *, void *self, const sqz_row *, int32_t *more);
} sqz_data;
SQZ_SEALED(sqz_data, next, 48);

#ifdef __cplusplus
}
#endif
#endif
