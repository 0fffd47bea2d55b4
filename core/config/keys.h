/* keys.h - the table of pipeline.json's keys, shared by the files of this room. */
#ifndef SQZ_CORE_CONFIG_KEYS_H
#define SQZ_CORE_CONFIG_KEYS_H
#include "config/config.h"

typedef enum key_kind {
    KEY_TEXT,
    KEY_PATH, /* a text that names a file or folder, resolved against the config's folder */
    KEY_DATA, /* FILE or NAME=FILE, resolved likewise */
    KEY_INT,
    KEY_NUM,
    KEY_BOOL,
    KEY_BYTES,   /* a number, or a text such as "8GB" */
    KEY_SECONDS, /* a number, or a text such as "1h30m" */
    KEY_TEXTS,   /* array of texts */
    KEY_PATHS,   /* array of texts that name files or folders, resolved likewise */
    KEY_OBJECT,  /* rows below it are its keys */
    KEY_LIST,    /* array of such objects; one object stands for an array of one */
    KEY_FREE     /* an object whose keys belong to somebody else */
} key_kind;

typedef struct key_row {
    const char *path; /* "steps[].use"; a row stands after the row of its parent */
    key_kind kind;
    const char *main;  /* OBJECT, LIST: a string stands for the object with only this field */
    const char *def;   /* JSON text of the default, or NULL = unset (null) */
    double lo, hi;     /* numbers: legal range, NaN = open */
    const char *words; /* TEXT, TEXTS: "a|b|c", the only legal ones, or NULL */
    int required;
    const char *help;
} key_row;

extern const key_row config_keys[];
extern const int config_n_keys;

/* The row of a path in which indices are written []: NULL when there is none. */
const key_row *config_key(const char *path);
/* Known keys directly under a path ("" = top level), for suggestions; returns their number. */
int config_children(const char *path, const char **names, int max);

/* One element of a path such as a.b[2].c.  Paths in indexed form "dataset[0].limit". */
typedef struct key_step {
    char name[96]; /* "" for an index */
    int index;     /* -1 for a name */
} key_step;
/* Number of steps, or -1 when the text is no path. */
int config_split_path(const char *path, size_t bytes, key_step *steps, int max);

/* Texts for single objects, single objects for lists, comma lists for --set. */
cJSON *config_expand(const cJSON *given);
void config_resolve_paths(cJSON *full, const char *base_dir);
/* The same for one value of such a key; other kinds stay as they are. */
void config_resolve_value(cJSON *value, key_kind kind, const char *base_dir);
void config_fill_defaults(cJSON *full);
sqz_status config_override_apply(cJSON *full, const config_override *, sqz_error *err);
#endif
