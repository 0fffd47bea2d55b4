/* mlflow.h - one MLflow server as this plugin sees it; shared by the files of the plugin. */
#ifndef SQZ_MLFLOW_H
#define SQZ_MLFLOW_H
#include <sqz/sqz.h>
#include <cjson/cJSON.h>

/* Limits of the server (mlflow/utils/validation.py); older ones than 3.x are smaller.  A batch is
 * at most 100 params or tags, 1000 metrics and 1 MB. */
enum {
    MAX_KEY = 250,
    MAX_PARAM = 6000,
    MAX_TAG = 5000,
    MAX_TEXTS = 90,
    MAX_METRICS = 900,
    MAX_BATCH_BYTES = 900000,
    MAX_URL = 2048
};

typedef struct mlflow {
    /* parameters */
    char uri[MAX_URL]; /* without a trailing slash */
    char experiment[512], registered_model[256], token_file[1024];
    int register_model;
    double upload_limit_bytes, timeout_s;

    const sqz_host *host;
    const sqz_http *http;
    const sqz_tracking *tracking;
    cJSON *study;
    cJSON *state; /* {"uri","experiment_id","runs":{trial or "study":{"run_id","artifact_uri",
                     "tagged"}},"front":[],"version"} */
    /* credentials; never leave this struct but towards the server */
    char user[256], password[512], bearer[4096], workspace[300];
    int lost; /* an allocation of the event's requests failed; nothing more is sent for it */
} mlflow;

/* ---- api.c: requests and their failures ------------------------------------------------------ */
/* Fills in server and credentials from the environment and files. */
sqz_status api_open(mlflow *);
/* path under /api/2.0/mlflow/.  body (taken over, may be NULL) is sent as JSON.  *answer (may be
 * NULL): the object that came back, for the caller.  *code: the server's error_code when the
 * request itself was refused; then SQZ_E_INVALID. */
sqz_status api_call(mlflow *, const char *method, const char *path, cJSON *body, cJSON **answer,
                    char code[64]);
/* One file to a folder that artifact_uri names; name is relative.  SQZ_E_UNSUPPORTED when the
 * server does not take artifacts itself. */
sqz_status api_upload(mlflow *, const char *artifact_uri, const char *name, const char *file,
                      const char *media_type);
/* Percent-encodes; slashes stay when keep_slash. */
void api_quote(const char *text, int keep_slash, char *out, size_t bytes);

/* ---- body.c: what is sent; each sets `lost` when memory fails -------------------------------- */
/* Takes item over, whatever happens; key is NULL for an array. */
void put_item(mlflow *, cJSON *to, const char *key, cJSON *item);
/* A text of NULL is one that could not be allocated. */
void put_text(mlflow *, cJSON *to, const char *key, const char *text);
void put_number(mlflow *, cJSON *to, const char *key, double value);
cJSON *put_array(mlflow *, cJSON *to, const char *key);
/* {"key","value"}, cleaned for the server. */
void put_pair(mlflow *, cJSON *list, const char *key, const char *value, size_t max);
/* As text; a value of NULL is absent. */
void put_json(mlflow *, cJSON *to, const char *key, const cJSON *value);

/* ---- text.c: what the server accepts --------------------------------------------------------- */
void text_key(const char *key, char out[MAX_KEY + 1]);
/* At most max bytes of valid UTF-8 without control characters but newline and tab; malloc'd. */
char *text_value(const char *value, size_t max);
/* The same with everything that Markdown or HTML would read escaped; malloc'd. */
char *text_plain(const char *value, size_t max);

/* ---- runs.c: experiments and runs, made once ------------------------------------------------- */
/* The run of a trial, or of the study when trial is NULL: {"run_id","artifact_uri"}, borrowed from
 * the state. */
sqz_status runs_get(mlflow *, const char *trial, const char *name, int64_t start_ms, cJSON **run);
/* Tags and params as {key: text}; metrics as [{"name","value","step"}].  Any may be NULL. */
sqz_status runs_log(mlflow *, const cJSON *run, const cJSON *params, const cJSON *tags,
                    const cJSON *metrics, int64_t time_ms);
sqz_status runs_set_status(mlflow *, const cJSON *run, const char *status, int64_t end_ms);
sqz_status state_save(mlflow *);
const char *get_str(const cJSON *, const char *key, const char *fallback);
const cJSON *get(const cJSON *, const char *key);

/* ---- models.c: the recommended member -------------------------------------------------------- */
sqz_status models_register(mlflow *, const cJSON *recommended, int64_t time_ms);
#endif
