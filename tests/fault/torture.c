/* torture.c - the n-th allocation fails, for n = 1, 2, ... until none is left to fail.
 *
 * Each n runs in a child process: what reads foreign files must report it (SQZ_E_NOMEM) and give
 * everything back (LeakSanitizer looks, in a sanitizer build); what builds a few bytes of our own
 * (paths, JSON nodes and text, SHA-256 contexts) may end the process by memory_failed.  A signal,
 * another error code or a success that hides the failure fails the test.
 *
 *     torture [EVERY [NAME]]   every EVERY-th n; without it a sample that takes seconds
 *
 * The linker's --wrap puts the counters between the objects and malloc, so libraries' own
 * allocations (SQLite, libcrypto, stdio, vasprintf) do not fail here. */
int coordinator_main(void);
#define main coordinator_main
#include "../unit/test_coordinator.c"
#undef main
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "data/data.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"
#include <sys/wait.h>

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);

static int armed;
static long counted, fails_at; /* 0 = only count */

static int fails(void)
{
    return armed && ++counted == fails_at;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *p, size_t bytes)
{
    return fails() ? NULL : __real_realloc(p, bytes);
}

/* ---- what is tried -----------------------------------------------------------------------------
 */

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"

static sqz_status try_json(sqz_error *err)
{
    json_doc *d;
    sqz_status s = json_read(EXAMPLE "/model/config.json", 1 << 20, JSON_COMMENTS, &d, err);
    if (!s) json_free(d);
    return s;
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

static sqz_status try_tokenizer(sqz_error *err)
{
    tokenizer *t;
    sqz_status s = tokenizer_open(EXAMPLE "/model", &t, err);
    if (!s) tokenizer_free(t);
    return s;
}

static sqz_status try_dataset(sqz_error *err)
{
    dataset *d;
    sqz_status s = dataset_open(EXAMPLE "/data/facts_test.jsonl", &d, err);
    if (!s) dataset_close(d);
    return s;
}

static sqz_status try_pipeline(sqz_error *err)
{
    static const char text[] =
        "{\"model\":\"" EXAMPLE "/model\",\"dataset\":[\"" EXAMPLE "/data/test.jsonl\"],"
        "\"objectives\":[\"quality\",\"bytes\"],\"budget\":{\"trials\":4},\"seed\":3}";
    config *c = NULL;
    sqz_status s =
        config_parse(text, (int64_t)sizeof text - 1, "pipeline.json", NULL, NULL, 0, &c, err);
    if (!s) config_free(c);
    return s;
}

static sqz_status try_journal(sqz_error *err)
{
    char *path = path_format("%s/torture.jsonl", root);
    journal *j = NULL;
    unlink(path); /* of the child before */
    sqz_status s = journal_open(path, &j, NULL, err);
    for (int i = 0; i < 3 && !s; i++) {
        cJSON *record = cJSON_CreateObject();
        cJSON_AddStringToObject(record, "type", "tell");
        s = journal_append(j, record, err);
    }
    if (j) journal_close(j);
    free(path);
    return s;
}

static fake stand_in;

static void unarmed_job(void *ctx, const cJSON *job, const char *dir, const worker_limits *limits,
                        const worker_hooks *hooks, worker_outcome *out)
{
    armed = 0;
    run_fake(ctx, job, dir, limits, hooks, out);
    armed = 1;
}

/* Three trials from beginning to end, into a folder of their own. */
static sqz_status try_coordinator(sqz_error *err)
{
    static seen events;
    static int round;
    run *r = NULL;
    int more = 1;
    stand_in = (fake){.seconds = 1};
    armed = 0;
    char *dir = path_format("%s/torture-%d-%d", root, (int)getpid(), round++);
    config *c = make_config("\"budget\":{\"trials\":3}");
    armed = 1;
    run_options o = options_for(c, dir, &stand_in, &events);
    o.job = unarmed_job;
    sqz_status s = run_open(&o, &r, err), finished = SQZ_OK;
    stand_in.run = r;
    while (!s && more) s = run_step(r, &more, err);
    if (r) finished = run_finish(r, s ? NULL : err);
    run_close(r);
    armed = 0;
    config_free(c);
    dir_remove(dir, NULL);
    free(dir);
    return s ? s : finished;
}

/* ---- one failure -------------------------------------------------------------------------------
 */

typedef enum end { REPORTED, ENDED, HARMLESS, WRONG, NONE_LEFT } end;

static sqz_status with_failure(sqz_status (*try_it)(sqz_error *), long n, sqz_error *err)
{
    counted = 0;
    fails_at = n;
    armed = 1;
    sqz_status s = try_it(err);
    armed = 0;
    return s;
}

/* In the child; its exit status tells the parent. */
static void child(sqz_status (*try_it)(sqz_error *), long n)
{
    sqz_error err = {0};
    sqz_status s = with_failure(try_it, n, &err);
    if (s && s != SQZ_E_NOMEM)
        fprintf(stderr, "allocation %ld: status %d: %s\n", n, (int)s, err.text);
    exit(counted < n ? 10 + NONE_LEFT
         : !s        ? 10 + HARMLESS
                     : 10 + (s == SQZ_E_NOMEM ? REPORTED : WRONG));
}

static end one(sqz_status (*try_it)(sqz_error *), long n, char said[256])
{
    int pipe_ends[2], status = 0;
    ck_assert_int_eq(pipe(pipe_ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_ends[1], STDERR_FILENO);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        child(try_it, n);
    }
    close(pipe_ends[1]);
    ssize_t got = 0, more;
    char drain[4096];
    while ((more = read(pipe_ends[0], drain, sizeof drain)) > 0) {
        size_t keep = (size_t)more < 255 - (size_t)got ? (size_t)more : 255 - (size_t)got;
        memcpy(said + got, drain, keep);
        got += (ssize_t)keep;
    }
    said[got] = 0;
    close(pipe_ends[0]);
    while (waitpid(pid, &status, 0) < 0) continue;
    if (!got && WIFSIGNALED(status)) snprintf(said, 256, "signal %d", WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) >= 10 && WEXITSTATUS(status) <= 10 + NONE_LEFT)
        return (end)(WEXITSTATUS(status) - 10);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1 && !strncmp(said, "sqz: no memory for ", 19))
        return ENDED;
    return WRONG;
}

static int torture(const char *name, sqz_status (*try_it)(sqz_error *), int harmless_allowed,
                   long every)
{
    long ends[NONE_LEFT + 1] = {0}, tried = 0;
    char said[256];
    for (long n = 1 + (every > 1 ? (long)getpid() % every : 0);; n += every) {
        end e = one(try_it, n, said);
        if (e == NONE_LEFT) break;
        if (e == HARMLESS && !harmless_allowed) e = WRONG;
        if (e == WRONG)
            printf("%s: allocation %ld: %s\n", name, n,
                   *said ? said : "hidden: the call succeeded");
        ends[e]++;
        tried++;
    }
    printf("%-12s %5ld failed allocations: %ld reported, %ld ended by rule, %ld without effect, "
           "%ld wrong\n",
           name, tried, ends[REPORTED], ends[ENDED], ends[HARMLESS], ends[WRONG]);
    return ends[WRONG] > 0 || !tried;
}

static const char *only; /* arguments of main */
static long step;        /* 0 = each its own */
static int bad;

/* In a suite, because the stand-in asserts; without fork, because every failure forks anyway. */
START_TEST(every_failure)
{
    static const struct {
        const char *name;
        sqz_status (*try_it)(sqz_error *);
        int harmless; /* may go on without: optional things */
        long shallow; /* every so-and-so many at most when sampling */
    } all[] = {{"json", try_json, 0, 1},        {"safetensors", try_checkpoint, 0, 4},
               {"config", try_config, 0, 2},    {"tokenizer", try_tokenizer, 0, 60},
               {"dataset", try_dataset, 0, 40}, {"pipeline", try_pipeline, 0, 6},
               {"journal", try_journal, 0, 1},  {"coordinator", try_coordinator, 1, 300}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (only && strcmp(only, all[i].name) != 0) continue;
        bad |= torture(all[i].name, all[i].try_it, all[i].harmless, step ? step : all[i].shallow);
    }
    ck_assert_int_eq(bad, 0);
}
END_TEST

int main(int argc, char **argv)
{
    step = argc > 1 ? atol(argv[1]) : 0;
    only = argc > 2 ? argv[2] : NULL;
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
