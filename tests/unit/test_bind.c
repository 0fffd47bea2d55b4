/* test_bind.c - from JSON to the arguments of a C function: checks, defaults, schema, help, the
 * call itself and what a plugin gets from its host. */
#include "hash/sha256.h"
#include "host/bind.h"
#include "host/host.h"
#include "io/file.h"
#include "reference/reference.h"
#include "witness.h"
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *work;
static catalogue *plugins;
static const agent_info *info;

static void setup(void)
{
    char name[] = "/tmp/sqz-bind-XXXXXX";
    char *path = path_format("%s/witness.so", BAD_DIR);
    const char *paths[] = {path};
    sqz_error err = {0};
    ck_assert_ptr_nonnull(mkdtemp(name));
    work = path_format("%s", name);
    setenv("SQZ_EXE", SQZ_DOUBLE, 1);
    catalogue_options o = {.paths = paths, .n_paths = 1, .cache_dir = work, .only_paths = 1};
    ck_assert_msg(catalogue_open(&o, &plugins, &err) == SQZ_OK, "%s", err.text);
    ck_assert_msg(catalogue_find(plugins, NULL, "witness", &info, &err) == SQZ_OK, "%s", err.text);
    free(path);
}

static void teardown(void)
{
    catalogue_close(plugins);
    dir_remove(work, NULL);
    free(work);
}

#define says(text, part)                                                                           \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

/* ---- checking
 * ----------------------------------------------------------------------------------------- */
START_TEST(defaults_are_filled)
{
    cJSON *resolved = NULL;
    ck_assert_int_eq(params_resolve(info, NULL, NULL, &resolved, NULL), SQZ_OK);
    char *text = json_canonical(resolved);
    ck_assert_str_eq(text,
                     "{\"act_order\":true,\"big\":0,\"bits\":4,\"damp\":0.01,\"note\":\"as it "
                     "is\",\"order\":\"static\",\"rows\":1}");
    free(text);
    cJSON_Delete(resolved);
}
END_TEST

static const struct {
    const char *with, *message; /* message NULL: accepted */
} cases[] = {
    {"{\"bits\": 8, \"damp\": 0.5, \"rows\": 100}", NULL},
    {"{\"x-comment\": \"free\"}", NULL},
    {"{\"bist\": 4}", "unknown parameter \"bist\"; did you mean \"bits\"? known: bits, big, damp"},
    {"{\"zzzzzzzz\": 4}", "unknown parameter \"zzzzzzzz\"; known: "},
    {"{\"bits\": 5}", "\"bits\" is 5; it must be 2, 3, 4 or 8"},
    {"{\"bits\": 4.5}", "\"bits\" is 4.5; it must be a whole number"},
    {"{\"bits\": \"4\"}", "\"bits\" must be a whole number"},
    {"{\"bits\": null}", "\"bits\" must be a whole number"},
    {"{\"rows\": 0}", "\"rows\" is 0; it must lie in [1, 100]"},
    {"{\"rows\": 101}", "\"rows\" is 101; it must lie in [1, 100]"},
    {"{\"big\": 9007199254740992}", NULL},
    {"{\"big\": -9007199254740992}", NULL},
    {"{\"big\": 9007199254740994}", "must be a whole number within 2^53"},
    {"{\"big\": 1e300}", "must be a whole number within 2^53"},
    {"{\"damp\": 0}", "\"damp\" is 0; it must lie in [0.0001, 0.5]"},
    {"{\"damp\": true}", "\"damp\" must be a number"},
    {"{\"act_order\": 1}", "\"act_order\" must be true or false"},
    {"{\"order\": \"sttic\"}", "it must be none, static or group (did you mean \"static\"?)"},
    {"{\"order\": 1}", "\"order\" must be one of the strings none, static or group"},
    {"{\"note\": 1}", "\"note\" must be a string"},
    {"[1]", "must be an object"},
};

START_TEST(values_are_checked)
{
    json_doc *doc;
    cJSON *resolved = NULL;
    sqz_error err = {0};
    const char *with = cases[_i].with;
    ck_assert_int_eq(json_parse(with, (int64_t)strlen(with), 0, "t.json", &doc, &err), SQZ_OK);
    sqz_status status = params_resolve(info, json_root(doc), NULL, &resolved, &err);
    if (cases[_i].message) {
        ck_assert_msg(status == ERR_USAGE, "%s was accepted", with);
        says(err.text, cases[_i].message);
        says(err.text, "org.example.witness: ");
        ck_assert_ptr_null(resolved);
    } else {
        ck_assert_msg(status == SQZ_OK, "%s: %s", with, err.text);
        cJSON_Delete(resolved);
    }
    json_free(doc);
}
END_TEST

START_TEST(duplicate_keys_are_refused)
{
    cJSON *with = cJSON_CreateObject(),
          *resolved = NULL; /* the strict reader refuses them before */
    sqz_error err;
    cJSON_AddNumberToObject(with, "bits", 4);
    cJSON_AddNumberToObject(with, "bits", 8);
    ck_assert_int_eq(params_resolve(info, with, NULL, &resolved, &err), ERR_USAGE);
    says(err.text, "\"bits\" is given twice");
    cJSON_Delete(with);
}
END_TEST

START_TEST(messages_carry_line_and_column)
{
    static const char text[] = "{\n  \"with\": {\n    \"bits\": 7\n  }\n}";
    json_doc *doc;
    cJSON *resolved = NULL;
    sqz_error err;
    ck_assert_int_eq(json_parse(text, (int64_t)strlen(text), 0, "pipeline.json", &doc, NULL),
                     SQZ_OK);
    ck_assert_int_eq(params_resolve(info, json_get(json_root(doc), "with"), doc, &resolved, &err),
                     ERR_USAGE);
    ck_assert_msg(strncmp(err.text, "pipeline.json:3:", 16) == 0, "%s", err.text);
    json_free(doc);
}
END_TEST

START_TEST(schema_and_help_come_from_the_same_rows)
{
    cJSON *schema = params_schema(info);
    const cJSON *properties = json_get(schema, "properties");
    ck_assert_int_eq(cJSON_GetArraySize(properties), 7);
    char *bits = json_canonical(json_get(properties, "bits"));
    ck_assert_str_eq(bits, "{\"default\":4,\"description\":\"bits per weight\",\"enum\":[2,3,4,8],"
                           "\"maximum\":8,\"minimum\":2,\"type\":\"integer\"}");
    ck_assert_str_eq(json_str(json_get(properties, "order"), "type", ""), "string");
    ck_assert(cJSON_IsFalse(json_get(schema, "additionalProperties")));
    char *help = params_help(info);
    says(help, "org.example.witness - Witness");
    says(help, "bits               int    default 4, one of 2, 3, 4 or 8, searched");
    says(help, "damp               real   default 0.01, from 0.0001 to 0.5, searched (log)");
    free(help);
    free(bits);
    cJSON_Delete(schema);
}
END_TEST

/* ---- calling
 * ------------------------------------------------------------------------------------------- */
typedef struct seen {
    int ticks, logs, stop, entered;
    char log[80];
} seen;

static int on_tick(void *ctx, double done, const char *what)
{
    seen *s = ctx;
    ck_assert(done == 0.5);
    ck_assert_str_eq(what, "half way");
    s->ticks++;
    return s->stop;
}

static void on_log(void *ctx, int level, const char *id, const char *text)
{
    seen *s = ctx;
    ck_assert_int_eq(level, SQZ_LOG_INFO);
    s->logs++;
    snprintf(s->log, sizeof s->log, "%s: %s", id, text);
}

static void on_enter(void *ctx, const agent_info *entered)
{
    ((seen *)ctx)->entered += entered == info;
}

static sqz_status call(witness *w, seen *s, const char *with, sqz_error *err)
{
    host_hooks hooks = {on_log, on_tick, s};
    host *h = host_new(&hooks);
    agent *a = NULL;
    cJSON *object = with ? cJSON_Parse(with) : NULL;
    host_set_enter(h, on_enter, NULL, s);
    ck_assert_msg(agent_open(h, info, &a, err) == SQZ_OK, "%s", err->text);
    ck_assert_ptr_eq(agent_describe(a), info);
    ck_assert_int_eq(*(const int *)agent_extension(a, "org.example.answer/1"), 4);
    ck_assert_ptr_null(agent_extension(a, "org.example.other/1"));
    sqz_status status = agent_call(a, w, object, err);
    agent_close(a);
    host_free(h);
    cJSON_Delete(object);
    return status;
}

START_TEST(arguments_arrive_as_written)
{
    witness w = {0};
    seen s = {0};
    sqz_error err = {0};
    sqz_status status =
        call(&w, &s,
             "{\"bits\":3,\"big\":-9007199254740991,\"damp\":0.1,\"act_order\":false,"
             "\"order\":\"group\",\"note\":\"h\\u00e9\",\"rows\":77}",
             &err);
    ck_assert_msg(status == SQZ_OK, "%s", err.text);
    ck_assert_int_eq(w.bits, 3);
    ck_assert(w.big == -9007199254740991);
    ck_assert(w.damp == 0.1);
    ck_assert_int_eq(w.act_order, 0);
    ck_assert_int_eq(w.order, 2);
    ck_assert_str_eq(w.note, "h\xc3\xa9");
    ck_assert_int_eq(w.rows, 77);
    ck_assert_int_eq(w.opened, 42);
    ck_assert_int_eq(s.ticks, 1);
    ck_assert_int_eq(s.entered, 1);
    ck_assert_str_eq(s.log, "org.example.witness: called");
}
END_TEST

START_TEST(failures_carry_id_and_words)
{
    witness w = {.wish = WITNESS_FAIL};
    seen s = {0};
    sqz_error err = {0};
    ck_assert_int_eq(call(&w, &s, "{\"damp\":0.25}", &err), SQZ_E_NUMERIC);
    ck_assert_str_eq(err.text, "org.example.witness: damp 0.25 is not enough");
    w.wish = WITNESS_SILENT;
    ck_assert_int_eq(call(&w, &s, NULL, &err), SQZ_E_UNSUPPORTED);
    ck_assert_str_eq(err.text, "org.example.witness: failed (unsupported) without saying why");
    w.wish = WITNESS_ODD;
    ck_assert_int_eq(call(&w, &s, NULL, &err), SQZ_E_INTERNAL);
    says(err.text, "returned 7, which is no status");
    w.wish = WITNESS_OK;
    ck_assert_int_eq(call(&w, &s, "{\"bits\":7}", &err), ERR_USAGE);
    s.stop = 1;
    ck_assert_int_eq(call(&w, &s, NULL, &err), SQZ_E_CANCELLED);
    ck_assert_str_eq(err.text, "org.example.witness: asked to stop");
}
END_TEST

static void set_mtime(const char *path)
{
    const struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

START_TEST(a_file_that_changed_is_not_loaded)
{
    char *path = path_format("%s/witness.so", BAD_DIR), *copy = path_format("%s/w.so", work), *data;
    const char *paths[] = {copy};
    const agent_info *found;
    catalogue *c;
    int64_t bytes;
    agent *a = NULL;
    sqz_error err;
    ck_assert_int_eq(file_read(path, 64 << 20, &data, &bytes, &err), SQZ_OK);
    ck_assert_int_eq(file_write(copy, data, bytes, &err), SQZ_OK);
    catalogue_options o = {.paths = paths, .n_paths = 1, .cache_dir = work, .only_paths = 1};
    ck_assert_int_eq(catalogue_open(&o, &c, &err), SQZ_OK);
    ck_assert_int_eq(catalogue_find(c, NULL, "witness", &found, &err), SQZ_OK);
    data[bytes - 1] ^= 1;
    ck_assert_int_eq(file_write(copy, data, bytes, &err), SQZ_OK);
    host *h = host_new(NULL);
    ck_assert_int_eq(agent_open(h, found, &a, &err), ERR_PLUGIN);
    says(err.text, "changed since it was scanned");
    ck_assert_ptr_null(a);
    /* Scanned anew it loads, even when its size and mtime were made to look as before. */
    catalogue_close(c);
    data[bytes - 1] ^= 1;
    ck_assert_int_eq(file_write(copy, data, bytes, &err), SQZ_OK);
    set_mtime(copy);
    ck_assert_int_eq(catalogue_open(&o, &c, &err), SQZ_OK);
    catalogue_close(c);
    data[bytes - 1] ^= 1;
    ck_assert_int_eq(file_write(copy, data, bytes, &err), SQZ_OK);
    set_mtime(copy);
    ck_assert_int_eq(catalogue_open(&o, &c, &err), SQZ_OK);
    ck_assert_int_eq(catalogue_find(c, NULL, "witness", &found, &err), SQZ_OK);
    ck_assert_msg(agent_open(h, found, &a, &err) == SQZ_OK, "%s", err.text);
    agent_close(a);
    host_free(h);
    catalogue_close(c);
    free(data);
    free(path);
    free(copy);
}
END_TEST

/* ---- services
 * ------------------------------------------------------------------------------------------- */
static void square(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    for (int64_t i = begin; i < end; i++) ((int64_t *)arg)[i] = i * i;
}

/* rng/1 written down a second time, from its description. */
static uint64_t splitmix_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

START_TEST(services_do_what_they_say)
{
    witness w = {0};
    seen s = {0};
    sqz_error err = {0};
    int64_t squares[1000];
    ck_assert_int_eq(call(&w, &s, NULL, &err), SQZ_OK);
    ck_assert_ptr_null(w.unknown);
    ck_assert_ptr_null(w.linalg); /* no device was set */
    w.pool->parallel_for(NULL, 1000, 7, square, squares);
    for (int64_t i = 0; i < 1000; i++) ck_assert_int_eq(squares[i], i * i);
    ck_assert_int_ge(w.pool->threads(NULL), 1);
    double t0 = w.clock->now_s(NULL);
    ck_assert(t0 > 0 && w.clock->now_s(NULL) >= t0);

    uint64_t seed_state = 17, fnv = 0xcbf29ce484222325u;
    uint64_t mixed = splitmix_next(&seed_state);
    for (const char *p = "q_proj"; *p; p++) fnv = (fnv ^ (unsigned char)*p) * 0x100000001b3u;
    /* mix(mixed ^ fnv) is one step of splitmix64 from a state one golden ratio before. */
    uint64_t key_state = (mixed ^ fnv) - 0x9e3779b97f4a7c15u;
    uint64_t stream = splitmix_next(&key_state);
    for (uint64_t i = 0; i < 100; i++)
        ck_assert_uint_eq(w.rng->bits(NULL, 17, "q_proj", i), splitmix_next(&stream));
    ck_assert_uint_ne(w.rng->bits(NULL, 17, "q_proj", 0), w.rng->bits(NULL, 17, "k_proj", 0));
    ck_assert_uint_ne(w.rng->bits(NULL, 17, "q_proj", 0), w.rng->bits(NULL, 18, "q_proj", 0));
}
END_TEST

START_TEST(linear_algebra_runs_on_the_device)
{
    host *h = host_new(NULL);
    agent *a = NULL;
    sqz_error err;
    ck_assert_int_eq(agent_open(h, info, &a, &err), SQZ_OK);
    host_set_device(h, (device){reference_hardware(), NULL});
    const sqz_host *given = agent_host(a);
    const sqz_linalg *l = given->service(given, SQZ_LINALG_1);
    ck_assert_ptr_nonnull(l);
    const float x[4] = {1, 2, 3, 4}, y[4] = {5, 6, 7, 8};
    float z[4] = {1, 1, 1, 1};
    ck_assert_int_eq(l->gemm(given, 0, 1, 2, 2, 2, 2.0, x, 2, y, 2, -1.0, z, 2), SQZ_OK);
    /* 2 X Y^T - 1 */
    ck_assert(z[0] == 33 && z[1] == 45 && z[2] == 77 && z[3] == 105);
    float spd[4] = {4, 2, 2, 3}; /* inverse = [[3, -2], [-2, 4]] / 8 */
    ck_assert_int_eq(l->inverse_factor(given, spd, 2), SQZ_OK);
    ck_assert_float_eq_tol(spd[0] * spd[0], 3.0f / 8, 1e-6f);
    ck_assert_float_eq_tol(spd[0] * spd[1], -2.0f / 8, 1e-6f);
    ck_assert_float_eq_tol(spd[1] * spd[1] + spd[3] * spd[3], 4.0f / 8, 1e-6f);
    ck_assert(spd[2] == 0);
    agent_close(a);
    host_free(h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bind");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults_are_filled);
    tcase_add_loop_test(t, values_are_checked, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, duplicate_keys_are_refused);
    tcase_add_test(t, messages_carry_line_and_column);
    tcase_add_test(t, schema_and_help_come_from_the_same_rows);
    tcase_add_test(t, arguments_arrive_as_written);
    tcase_add_test(t, failures_carry_id_and_words);
    tcase_add_test(t, a_file_that_changed_is_not_loaded);
    tcase_add_test(t, services_do_what_they_say);
    tcase_add_test(t, linear_algebra_runs_on_the_device);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
