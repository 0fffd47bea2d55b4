/* torture.c - the n-th allocation fails, for n = 1, 2, ... until none is left to fail; once alone,
 * once with every later one.
 *
 * Each n runs in a child process.  What reads foreign files must report it (SQZ_E_NOMEM) and give
 * everything back (LeakSanitizer looks, in a sanitizer build); what builds a few bytes of our own
 * (paths, JSON nodes and text, SHA-256 contexts) may end the process by memory_failed.  A signal, a
 * leak, another error code or a success that hides the failure fails the test.  After a failure in
 * the coordinator its run is resumed and must reach the front of an undisturbed one.
 *
 *     torture [short|places|all] [NAME [N]]
 *
 * short (the default): the first n of each chain of four callers, so that every place that
 * allocates fails, in seconds.  places: the first and the last n of each chain of fourteen, alone
 * and with every later one; all ways in which a place is reached, in minutes.  all: every n,
 * likewise. */
int coordinator_main(void);
#define main coordinator_main
#include "../unit/test_coordinator.c"
#undef main
#include "alloc.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "data/data.h"
#include "model/model.h"
#include "registry.h"
#include "report/report.h"
#include "tokenizer/tokenizer.h"
#include "worker/channel.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* ---- what is tried -------------------------------------------------------------------------- */

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"

enum { MOST = 1 << 22 };

/* Shared with the children: what the one that only counts saw. */
static struct shared {
    char result[1 << 16]; /* a front, a text */
    long n;               /* allocations */
    uint64_t sites[MOST]; /* who asked for them */
} * shared;

/* Not another one than the child had that only counted. */
static sqz_status same_result(const char *text, sqz_error *err)
{
    if (strlen(text) >= sizeof shared->result) return err_set(err, SQZ_E_INTERNAL, "a long result");
    if (!*shared->result) strcpy(shared->result, text);
    size_t same = 0;
    while (text[same] && text[same] == shared->result[same]) same++;
    if (text[same] == shared->result[same]) return SQZ_OK;
    same -= same < 40 ? same : 40;
    return err_set(err, SQZ_E_INTERNAL, "the result is another one: %.200s, not %.200s",
                   text + same, shared->result + same);
}

static sqz_status try_json(sqz_error *err)
{
    json_doc *d;
    sqz_status s = json_read(EXAMPLE "/model/config.json", 1 << 20, JSON_COMMENTS, &d, err);
    if (s) return s;
    char *text = json_text(json_root(d), 1), *canonical = json_canonical(json_root(d));
    free(text);
    free(canonical);
    json_free(d);
    return SQZ_OK;
}

static sqz_status try_checkpoint(sqz_error *err)
{
    checkpoint *c;
    sqz_status s = checkpoint_open(EXAMPLE "/model", &c, err);
    if (!s) checkpoint_close(c);
    return s;
}

static sqz_status try_config(sqz_error *err)
{
    model_config c = {0};
    char *text;
    sqz_status s = file_read(EXAMPLE "/model/config.json", 1 << 20, &text, NULL, err);
    if (s) return s;
    s = model_config_parse(text, "config.json", &c, err);
    free(text);
    if (!s) model_config_free(&c);
    return s;
}

static sqz_status tokenize(const char *dir, sqz_error *err)
{
    static const char text[] = "What is 12 + 7? <|x|> na\u00efve \U0001f40c";
    tokenizer *t;
    int32_t *ids = NULL;
    char *back = NULL;
    int64_t n = 0, bytes = 0;
    sqz_status s = tokenizer_open(dir, &t, err);
    if (s) return s;
    s = tokenizer_encode(t, text, (int64_t)sizeof text - 1, 1, &ids, &n, err);
    if (!s) s = tokenizer_decode(t, ids, n, 0, &back, &bytes, err);
    if (!s) s = same_result(back, err);
    free(ids);
    free(back);
    tokenizer_free(t);
    return s;
}

static sqz_status try_tokenizer(sqz_error *err)
{
    return tokenize(EXAMPLE "/model", err);
}

#define TOKENIZERS SQZ_SOURCE_DIR "/tests/golden/tokenizer/"

static sqz_status try_unigram(sqz_error *err)
{
    return tokenize(TOKENIZERS "unigram-charsmap", err);
}

static sqz_status try_wordpiece(sqz_error *err)
{
    return tokenize(TOKENIZERS "bert", err);
}

static sqz_status try_sentencepiece(sqz_error *err)
{
    return tokenize(TOKENIZERS "spm-bpe-llama", err);
}

/* Files of a few rows: every row goes the same way. */
static sqz_status try_rows(const char *name, const char *text, sqz_error *err)
{
    dataset *d;
    alloc_pause();
    char *path = folder(name);
    ck_assert_int_eq(file_write(path, text, (int64_t)strlen(text), NULL), SQZ_OK);
    alloc_continue();
    sqz_status s = dataset_open(path, &d, err);
    alloc_pause();
    free(path);
    alloc_continue();
    if (s) return s;
    for (int64_t i = 0; i < d->rows.n_rows; i++) {
        d->rows.text(&d->rows, i, "question");
        d->rows.list_length(&d->rows, i, "tags");
        d->rows.list_text(&d->rows, i, "tags", 0);
    }
    dataset_close(d);
    return s;
}

static sqz_status try_jsonl(sqz_error *err)
{
    return try_rows("rows.jsonl",
                    "{\"question\":\"2+2\",\"answer\":\"4\"}\n"
                    "{\"question\":\"big \\u00e9\",\"answer\":7,\"tags\":[\"a\",\"b\"]}\n"
                    "{\"question\":\"2*3\",\"answer\":\"6\",\"extra\":{\"deep\":[1,null]}}\n",
                    err);
}

static sqz_status try_rows_array(sqz_error *err)
{
    return try_rows("rows.json", "[{\"text\":\"one\"},{\"text\":\"two\"},{\"text\":\"three\"}]",
                    err);
}

static sqz_status try_csv(sqz_error *err)
{
    return try_rows("rows.csv", "question,answer\n1+1,2\n\"a \"\"b\"\"\",c\n", err);
}

static sqz_status try_text(sqz_error *err)
{
    return try_rows("rows.txt", "A document of one line.\n", err);
}

static sqz_status try_pipeline(sqz_error *err)
{
    static const char text[] =
        "{\"model\":\"" EXAMPLE "/model\",\"dataset\":[\"" EXAMPLE "/data/test.jsonl\"],"
        "\"objectives\":[\"quality\",\"bytes\"],\"budget\":{\"trials\":4},\"seed\":3}";
    static const config_override set[] = {{"budget.trials=5", "--set"},
                                          {"constraints.max_accuracy_drop=0.1", "--set"}};
    config *c = NULL;
    sqz_status s =
        config_parse(text, (int64_t)sizeof text - 1, "pipeline.json", NULL, set, 2, &c, err);
    if (!s) config_free(c);
    return s;
}

static sqz_status append_three(const char *path, sqz_error *err)
{
    journal *j = NULL;
    sqz_status s = journal_open(path, &j, NULL, err);
    for (int i = 0; i < 3 && !s; i++) {
        cJSON *record = cJSON_CreateObject();
        cJSON_AddStringToObject(record, "type", "tell");
        s = journal_append(j, record, err);
    }
    if (!s && journal_length(j) != 3 && journal_length(j) != 6)
        s = err_set(err, SQZ_E_INTERNAL, "the journal has %lld records",
                    (long long)journal_length(j));
    if (j) journal_close(j);
    return s;
}

/* Written, opened again with its records, written on. */
static sqz_status try_journal(sqz_error *err)
{
    char *path = path_format("%s/torture.jsonl", root);
    unlink(path); /* of the child before */
    sqz_status s = append_three(path, err);
    if (!s) s = append_three(path, err);
    free(path);
    return s;
}

static sqz_status take_message(channel *c, sqz_error *err)
{
    cJSON *m = channel_take(c);
    if (!m) m = channel_take(c); /* what could not be held is still there */
    if (!m)
        return err_set(err, c->broken ? SQZ_E_INTERNAL : SQZ_E_NOMEM, "the message is %s",
                       c->broken ? "taken for damaged" : "waiting");
    sqz_status s = strcmp(json_str(m, "what", ""), "layers") ? SQZ_E_INTERNAL : SQZ_OK;
    cJSON_Delete(m);
    return s;
}

static sqz_status try_channel(sqz_error *err)
{
    int ends[2];
    alloc_pause(); /* an assertion allocates */
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    alloc_continue();
    channel a = {.fd = ends[0]}, b = {.fd = ends[1]};
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "type", "progress");
    cJSON_AddStringToObject(m, "what", "layers");
    int sent = channel_send(&a, m) && channel_send(&a, m);
    cJSON_Delete(m);
    sqz_status s = sent ? take_message(&b, err) : SQZ_E_INTERNAL;
    if (!s) s = take_message(&b, err);
    channel_close(&a);
    channel_close(&b);
    free(a.bytes);
    free(b.bytes);
    return s;
}

/* A run folder with one trial. */
static void report_folder(const char *dir)
{
    static const char *const files[][2] = {
        {"run.json", "{\"id\":\"r\",\"config\":{\"seed\":1},\"seed\":1}"},
        {"pareto.json",
         "{\"objectives\":[{\"name\":\"quality\",\"direction\":\"max\"}],\"members\":["
         "{\"strategy_id\":\"s1\",\"label\":\"x\",\"metrics\":{\"quality\":0.5,"
         "\"bytes\":10,\"quality_metric\":\"exact_match\"}}]}"},
        {"trials.jsonl", "{\"strategy_id\":\"dense\",\"kind\":\"baseline\",\"outcome\":\"ok\","
                         "\"metrics\":{\"quality\":0.6,\"bytes\":20}}\n{\"strategy_id\":\"s1\","
                         "\"label\":\"x\",\"outcome\":\"ok\",\"metrics\":{\"quality\":0.5,"
                         "\"bytes\":10},\"steps_result\":{\"layers\":[{\"name\":\"model.layers.0."
                         "mlp.up_proj\",\"bits\":4,\"relative_error\":0.1}]}}\n"}};
    ck_assert_int_eq(dir_make(dir, NULL), SQZ_OK);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = path_format("%s/%s", dir, files[i][0]);
        ck_assert_int_eq(file_write(path, files[i][1], (int64_t)strlen(files[i][1]), NULL), SQZ_OK);
        free(path);
    }
}

static sqz_status try_report(sqz_error *err)
{
    alloc_pause();
    char *dir = folder("report");
    report_folder(dir);
    report_data d;
    alloc_continue();
    sqz_status s = report_load(dir, &d, err);
    if (!s && cJSON_GetArraySize(d.trials) != 2)
        s = err_set(err, SQZ_E_INTERNAL, "%d trials were read", cJSON_GetArraySize(d.trials));
    if (!s || s == SQZ_E_INTERNAL) report_data_free(&d);
    if (!s) s = report_write(dir, err);
    alloc_pause();
    free(dir);
    return s;
}

/* A job as a worker does it, in this process: steps, evaluation, export. */
static sqz_status try_job(sqz_error *err)
{
    alloc_pause();
    char *text = path_format(
        "{\"schema\":\"sqz.job/1\",\"job\":\"torture\",\"store\":\"%s/jobs-%d\",\"threads\":1,"
        "\"seed\":7,\"plugins\":{\"path\":[\"" SQZ_PLUGIN_DIR "\"]},\"model\":\"" EXAMPLE
        "/model\",\"compute\":\"fp32\",\"tasks\":[{\"task\":\"steps\",\"steps\":[{\"use\":\"rtn\","
        "\"with\":{\"bits\":4}}]},{\"task\":\"eval\",\"evals\":[{\"name\":\"t\",\"dataset\":"
        "\"" EXAMPLE "/data/arith_test.jsonl\",\"limit\":1}]},{\"task\":\"bench\",\"new_tokens\":2,"
        "\"prompt_tokens\":4,\"repeats\":1},{\"task\":\"export\",\"output\":\"%s/out-%d\"}]}",
        root, (int)getpid(), root, (int)getpid());
    cJSON *job = cJSON_Parse(text), *result = NULL;
    job_context none = {0};
    alloc_continue();
    sqz_status s = job_execute(job, &none, &result, err);
    alloc_pause();
    cJSON_Delete(result);
    cJSON_Delete(job);
    free(text);
    return s;
}

/* ---- the registry --------------------------------------------------------------------------- */

#define BASE "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* An artifact of one object, and an object that nothing needs. */
static void fill_registry(registry *r, char needed[DIGEST_TEXT])
{
    char digest[DIGEST_TEXT], unused[DIGEST_TEXT];
    ck_assert_int_eq(object_put(r, "weights", 7, needed, NULL), SQZ_OK);
    ck_assert_int_eq(object_put(r, "unused", 6, unused, NULL), SQZ_OK);
    char *text =
        path_format("{\"schema\":\"sqz.artifact/1\",\"base\":\"" BASE "\",\"tensors\":{\"m\":{"
                    "\"form\":\"int-affine/1\",\"object\":\"%s\"}},\"runtime\":{}}",
                    needed);
    cJSON *manifest = cJSON_Parse(text);
    ck_assert_int_eq(artifact_put(r, manifest, digest, NULL), SQZ_OK);
    artifact_row row = {.model = (char *)"m", .label = (char *)"l", .steps_json = (char *)"[]"};
    memcpy(row.digest, digest, DIGEST_TEXT);
    memcpy(row.base, BASE, DIGEST_TEXT);
    ck_assert_int_eq(artifact_record(r, &row, NULL, NULL), SQZ_OK);
    cJSON_Delete(manifest);
    free(text);
}

/* What a manifest that cannot be read for lack of memory refers to must not be swept. */
static sqz_status try_gc(sqz_error *err)
{
    char needed[DIGEST_TEXT];
    registry *r = NULL;
    registry_report report = {0};
    alloc_pause();
    char *dir = folder("gc");
    dir_remove(dir, NULL);
    ck_assert_int_eq(registry_open(dir, &r, NULL), SQZ_OK);
    fill_registry(r, needed);
    alloc_continue();
    sqz_status s = registry_gc(r, 0, 0, &report, err);
    alloc_pause();
    if (!s) cJSON_Delete(report.problems);
    char *path = object_path(r, needed);
    if (!path) s = err_set(err, SQZ_E_INTERNAL, "an object that an artifact needs is gone");
    free(path);
    registry_close(r);
    free(dir);
    return s;
}

/* ---- the coordinator ------------------------------------------------------------------------ */

static fake stand_in;

static void unarmed_job(void *ctx, const cJSON *job, const char *dir, const worker_limits *limits,
                        const worker_hooks *hooks, worker_outcome *out)
{
    alloc_pause();
    run_fake(ctx, job, dir, limits, hooks, out);
    alloc_continue();
}

static sqz_status to_the_end(run *r, sqz_error *err)
{
    int more = 1;
    sqz_status s = SQZ_OK;
    stand_in.run = r;
    while (!s && more) s = run_step(r, &more, err);
    sqz_status finished = run_finish(r, s ? NULL : err);
    return s ? s : finished;
}

static sqz_status same_front(const run *r, sqz_error *err)
{
    char *text = front_text(r);
    sqz_status s = same_result(text, err);
    free(text);
    return s;
}

/* Three trials from beginning to end. */
static sqz_status try_coordinator(sqz_error *err)
{
    static seen events;
    run *r = NULL;
    stand_in = (fake){.seconds = 1};
    alloc_pause();
    char *dir = folder("torture-run");
    dir_remove(dir, NULL);
    config *c = make_config("\"budget\":{\"trials\":3}");
    alloc_continue();
    run_options o = options_for(c, dir, &stand_in, &events);
    o.job = unarmed_job;
    sqz_status s = run_open(&o, &r, err);
    if (!s) s = to_the_end(r, err);
    alloc_pause();
    if (!s) s = same_front(r, err);
    alloc_continue();
    run_close(r);
    alloc_pause();
    config_free(c);
    free(dir);
    return s;
}

/* With memory again: the run goes on to the same front, or is begun when it had not. */
static sqz_status resume_coordinator(sqz_error *err)
{
    static seen events;
    run *r = NULL;
    journal *j = NULL;
    stand_in = (fake){.seconds = 1};
    char *dir = folder("torture-run"), *path = path_format("%s/journal.jsonl", dir);
    config *c = make_config("\"budget\":{\"trials\":3}");
    run_options o = options_for(c, dir, &stand_in, &events);
    int begun = path_exists(path) && !journal_read(path, &j, NULL) && journal_length(j) > 0;
    if (!begun) dir_remove(dir, NULL);
    sqz_status s = begun ? run_resume(dir, &o, &r, err) : run_open(&o, &r, err);
    if (!s) s = to_the_end(r, err);
    if (!s) s = same_front(r, err);
    if (s) err_prefix(err, "resumed");
    run_close(r);
    if (j) journal_close(j);
    config_free(c);
    free(path);
    free(dir);
    return s;
}

/* ---- one failure ---------------------------------------------------------------------------- */

typedef enum end { REPORTED, ENDED, HARMLESS, WRONG } end;

typedef enum reach { SHORT, PLACES, ALL } reach;

typedef struct subject {
    const char *name;
    sqz_status (*try_it)(sqz_error *);
    sqz_status (*after)(sqz_error *); /* with memory again, or NULL */
    int harmless;                     /* may go on without: optional things */
    int large;                        /* a second each: only with `places`, whatever is said */
} subject;

/* In the child; its exit status tells the parent. */
static void child(const subject *of, long n, int all)
{
    sqz_error err = {0};
    alloc_begin(n, all);
    sqz_status s = of->try_it(&err);
    alloc_pause();
    if (!n) shared->n = alloc_counted();
    if (s && s != SQZ_E_NOMEM) fprintf(stderr, "status %d: %s\n", (int)s, err.text);
    exit(10 + (!s ? HARMLESS : s == SQZ_E_NOMEM ? REPORTED : WRONG));
}

static void child_after(const subject *of)
{
    sqz_error err = {0};
    sqz_status s = of->after(&err);
    if (s) fprintf(stderr, "status %d: %s\n", (int)s, err.text);
    exit(10 + (s ? WRONG : HARMLESS));
}

/* The beginning of what is written into fd, until it is closed everywhere. */
static void listen_to(int fd, char said[400])
{
    size_t got = 0;
    ssize_t more;
    char text[4096];
    while ((more = read(fd, text, sizeof text)) > 0) {
        size_t keep = (size_t)more < 399 - got ? (size_t)more : 399 - got;
        memcpy(said + got, text, keep);
        got += keep;
    }
    said[got] = 0;
}

/* n < 0: what comes after a failure. */
static end one(const subject *of, long n, int all, char said[400])
{
    int ends[2], status = 0;
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (n < 0) child_after(of);
        child(of, n, all);
    }
    close(ends[1]);
    listen_to(ends[0], said);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0) continue;
    if (!*said && WIFSIGNALED(status)) snprintf(said, 400, "signal %d", WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) >= 10 && WEXITSTATUS(status) <= 10 + WRONG)
        return (end)(WEXITSTATUS(status) - 10);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1 && !strncmp(said, "sqz: no memory for ", 19))
        return ENDED;
    return WRONG;
}

static void one_failure(const subject *of, long n, int all, long ends[])
{
    char said[400];
    end e = one(of, n, all, said);
    if (e == HARMLESS && !of->harmless) {
        e = WRONG;
        snprintf(said, sizeof said, "hidden: the call succeeded");
    }
    if (e != WRONG && of->after && one(of, -1, 0, said) != HARMLESS) e = WRONG;
    if (e == WRONG)
        printf("%s: allocation %ld%s: %s\n", of->name, n, all ? " and all later ones" : "", said);
    ends[e]++;
}

/* The first and perhaps the last n of each chain of callers; `chosen` has shared->n entries. */
static void choose_places(uint8_t *chosen, int with_last)
{
    enum { SLOTS = 1 << 16 };
    static struct {
        uint64_t site;
        long last;
    } seen_sites[SLOTS];
    memset(seen_sites, 0, sizeof seen_sites);
    for (long i = 0; i < shared->n; i++) {
        size_t k = shared->sites[i] % SLOTS;
        while (seen_sites[k].site && seen_sites[k].site != shared->sites[i]) k = (k + 1) % SLOTS;
        chosen[i] = !seen_sites[k].site;
        seen_sites[k].site = shared->sites[i];
        seen_sites[k].last = i;
    }
    for (size_t k = 0; k < SLOTS && with_last; k++)
        if (seen_sites[k].site) chosen[seen_sites[k].last] = 1;
}

static long only_n; /* of main: 0 = each that was chosen */

static int torture(const subject *of, reach how)
{
    long ends[WRONG + 1] = {0}, tried = 0;
    char said[400];
    *shared->result = 0;
    alloc_note(shared->sites, MOST, how == SHORT ? 4 : 14);
    if (one(of, 0, 0, said) != HARMLESS) {
        printf("%s: fails with all its memory: %s\n", of->name, said);
        return 1;
    }
    alloc_note(NULL, 0, 0);
    if (shared->n > MOST) {
        printf("%s: %ld allocations, more than are counted here\n", of->name, shared->n);
        return 1;
    }
    uint8_t *chosen = calloc((size_t)shared->n + 1, 1);
    if (how == ALL && !of->large)
        memset(chosen, 1, (size_t)shared->n);
    else
        choose_places(chosen, how != SHORT);
    for (long n = 1; n <= shared->n; n++) {
        if (only_n) chosen[n - 1] = n == only_n;
        for (int all = 0; all < (how == SHORT ? 1 : 2) && chosen[n - 1]; all++, tried++)
            one_failure(of, n, all, ends);
    }
    free(chosen);
    printf("%-12s %6ld allocations, %6ld failures: %ld reported, %ld ended by rule, %ld without "
           "effect, %ld wrong\n",
           of->name, shared->n, tried, ends[REPORTED], ends[ENDED], ends[HARMLESS], ends[WRONG]);
    return ends[WRONG] > 0 || !tried;
}

static const char *only; /* arguments of main */

static reach how_far;

/* By its name, or as one of the quick ones. */
static int named(const subject *of, const char *name)
{
    return !strcmp(name, of->name) || (!strcmp(name, "parsers") && !of->after && !of->large);
}

/* In a suite, because the stand-in asserts; without fork, because every failure forks anyway. */
START_TEST(every_failure)
{
    static const subject subjects[] = {{"json", try_json, NULL, 0, 0},
                                       {"safetensors", try_checkpoint, NULL, 0, 0},
                                       {"config", try_config, NULL, 0, 0},
                                       {"tokenizer", try_tokenizer, NULL, 1, 0},
                                       {"unigram", try_unigram, NULL, 1, 0},
                                       {"wordpiece", try_wordpiece, NULL, 1, 0},
                                       {"sentencepiece", try_sentencepiece, NULL, 1, 0},
                                       {"jsonl", try_jsonl, NULL, 0, 0},
                                       {"rows array", try_rows_array, NULL, 0, 0},
                                       {"csv", try_csv, NULL, 0, 0},
                                       {"text", try_text, NULL, 0, 0},
                                       {"pipeline", try_pipeline, NULL, 0, 0},
                                       {"journal", try_journal, NULL, 0, 0},
                                       {"channel", try_channel, NULL, 1, 0},
                                       {"report", try_report, NULL, 0, 0},
                                       {"gc", try_gc, NULL, 0, 0},
                                       {"job", try_job, NULL, 1, 1},
                                       {"coordinator", try_coordinator, resume_coordinator, 1, 0}};
    int bad = 0;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (only ? named(&subjects[i], only) : !subjects[i].large || how_far != SHORT)
            bad |= torture(&subjects[i], how_far);
    ck_assert_int_eq(bad, 0);
}
END_TEST

int main(int argc, char **argv)
{
    static const char *const words[] = {"short", "places", "all"};
    for (int i = 0; argc > 1 && i < 3; i++)
        if (!strcmp(argv[1], words[i])) how_far = (reach)i;
    only = argc > 2 ? argv[2] : NULL;
    only_n = argc > 3 ? atol(argv[3]) : 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    sqz_error err = {0};
    char exe[] = SQZ_BUILD_DIR "/bin/sqz";
    setenv("SQZ_EXE", exe, 0);
    snprintf(root, sizeof root, "%s/sqz-torture-XXXXXX",
             path_is_dir("/dev/shm") ? "/dev/shm" : "/tmp");
    if (!mkdtemp(root)) return 2;
    char *cache = folder("cache");
    const char *paths[] = {SQZ_PLUGIN_DIR};
    catalogue_options o = {.paths = paths, .n_paths = 1, .cache_dir = cache};
    if (catalogue_open(&o, &plugins, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    Suite *suite = suite_create("torture");
    TCase *t = tcase_create("torture");
    tcase_add_test(t, every_failure);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    catalogue_close(plugins);
    dir_remove(root, NULL);
    free(cache);
    return failures > 0;
}
