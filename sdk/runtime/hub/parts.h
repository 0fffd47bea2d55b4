/* parts.h - what the files of this room share: a repository's name, the settings of the
 * environment, one exchange with a server. */
#ifndef SQZ_RUNTIME_HUB_PARTS_H
#define SQZ_RUNTIME_HUB_PARTS_H
#include "hub/hub.h"
#include "json/json.h"

enum { HUB_NAME = 200, HUB_HEX = 65 };

typedef struct hub_repo {
    int dataset;
    char id[HUB_NAME];       /* owner/name */
    char revision[HUB_NAME]; /* "main", a tag, refs/pr/1, a commit */
} hub_repo;

/* 0 when the text is no owner/name[@revision]. */
int hub_parse(const char *text, int dataset, hub_repo *out);
/* Is a path of a repository's file one that stays inside? */
int hub_path_safe(const char *path);
int hub_is_hex(const char *text, size_t n);

/* ---- the environment and the cache ----------------------------------------------------------- */
typedef struct hub_place {
    char *endpoint; /* without a slash at the end */
    char *token;    /* NULL: none */
    char *cache;    /* the folder of all repositories */
    char *folder;   /* of this repository: CACHE/models--OWNER--NAME */
    char *locks;
    int offline;
    double timeout_s; /* without a byte */
} hub_place;
sqz_status hub_place_open(const hub_repo *, hub_place *, sqz_error *err);
void hub_place_free(hub_place *);
/* The commit that the revision means in the cache; 0: not known there. */
int hub_cached_commit(const hub_place *, const hub_repo *, char commit[41]);
char *hub_snapshot(const hub_place *, const char *commit); /* malloc'd path */
sqz_status hub_write_ref(const hub_place *, const hub_repo *, const char *commit, sqz_error *err);
/* snapshots/COMMIT/PATH -> the blob */
sqz_status hub_link(const hub_place *, const char *commit, const char *path, const char *etag,
                    sqz_error *err);

/* What is wanted of a data set's files. */
typedef struct hub_part {
    const char *config, *split; /* NULL: any */
    const char *pattern;        /* of their paths (fnmatch), NULL: by their usual names */
} hub_part;
/* The files of all parts, from the cache or downloaded; *folder (malloc'd) holds them.  Where the
 * main branch has nothing that can be read, the hub's own conversion to Parquet is taken. */
sqz_status hub_data_files(const hub_repo *, const hub_part *, int n, const hub_hooks *,
                          char **folder, sqz_error *err);

/* ---- exchanges ------------------------------------------------------------------------------- */
typedef struct hub_answer {
    long status;
    char etag[HUB_HEX], commit[41];
    int64_t size;   /* -1: not told */
    int64_t from;   /* first byte of a part, -1: whole */
    char *location; /* absolute; of a redirect to another host */
    double retry_after_s;
    char code[64]; /* X-Error-Code */
    char *body;    /* of a GET into memory */
    int64_t bytes;
} hub_answer;
void hub_answer_free(hub_answer *);

typedef struct hub_request {
    const hub_place *place;
    const hub_hooks *hooks;
    const char *url;
    int head; /* headers only */
    int64_t max_bytes;
    int fd;                         /* a file's GET writes here; -1: into memory */
    int64_t resume_at;              /* bytes that the file has */
    double done_before, done_total; /* bytes, for the progress of several files */
    const char *what;
} hub_request;
/* One request with its redirects; the token goes to the endpoint's host alone.  Waits and tries
 * again after 429, 5xx and broken connections (a file's GET does not: its caller resumes). */
sqz_status hub_exchange(const hub_request *, hub_answer *, sqz_error *err);
/* Waits, as attempt number `attempt` deserves or the server says; SQZ_E_CANCELLED. */
sqz_status hub_wait(const hub_hooks *, int attempt, double retry_after_s, const char *what);
/* An answer that is no success as an error that says what to do. */
sqz_status hub_refused(const hub_repo *, const hub_answer *, const char *what, sqz_error *err);
enum { HUB_ATTEMPTS = 5 };

/* ---- files ----------------------------------------------------------------------------------- */
typedef struct hub_file {
    char *path;   /* in the repository */
    int64_t size; /* -1: not told */
} hub_file;
/* Into the cache, unless it is there. */
sqz_status hub_file_get(const hub_place *, const hub_repo *, const char *commit, const hub_file *,
                        const hub_hooks *, double done_before, double done_total, sqz_error *err);
#endif
