/* test_load_back.c - an export whose files change between the writing and the check: one wrong bit
 * in each kind of tensor, a number of config.json, a file cut short.  Each must be found and named,
 * and nothing may be left of the folder. */
#include "checkpoint/safetensors.h"
#include "scratch.h"
#include "worker/worker.h"
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXAMPLE SQZ_SOURCE_DIR "/examples/tiny-arith"
#define Q0 "model.layers.0.self_attn.q_proj"
#define DOWN3 "model.layers.3.mlp.down_proj"
#define DIFFERS " differs from what was evaluated"

/* What happens to the files when the check begins. */
typedef struct spoil {
    const char *tensor;      /* the lowest bit of the byte in its middle is turned */
    const char *text, *with; /* or this part of config.json is replaced, by as many bytes */
    int cut;                 /* or the weights lose their last byte */
    const char *says;        /* the refusal; NULL: nothing happens and nothing is refused */
    int times;               /* that the check began */
} spoil;

static char *written(const char *file)
{
    return path_format("%s/out.tmp.%d/%s", scratch, (int)getpid(), file);
}

static void put_byte(const char *path, int64_t at, uint8_t byte)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    ck_assert_int_eq(close(fd), 0);
}

static void turn_bit(const char *path, const char *tensor)
{
    st_file *f;
    ck_assert_int_eq(st_open(path, &f, NULL), SQZ_OK);
    const st_tensor *t = st_find(f, tensor);
    ck_assert_msg(t != NULL, "%s is not in the export", tensor);
    const uint8_t *middle = t->data + t->bytes / 2;
    int64_t at = middle - f->map.data;
    uint8_t wrong = *middle ^ 1;
    st_close(f);
    put_byte(path, at, wrong);
}

static void replace(const char *path, const char *text, const char *with)
{
    char *config;
    int64_t bytes;
    ck_assert_int_eq(file_read(path, 1 << 20, &config, &bytes, NULL), SQZ_OK);
    const char *found = strstr(config, text);
    ck_assert_msg(found != NULL, "config.json has no %s", text);
    for (int64_t i = 0; with[i]; i++) put_byte(path, found - config + i, (uint8_t)with[i]);
    free(config);
}

static void cut(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size - 1), 0);
}

static int spoil_at_the_check(void *ctx, double done, const char *what)
{
    spoil *s = ctx;
    (void)done;
    if (strcmp(what, "load-back check") != 0) return 0;
    char *weights = written("model.safetensors"), *config = written("config.json");
    s->times++;
    if (s->tensor) turn_bit(weights, s->tensor);
    if (s->text) replace(config, s->text, s->with);
    if (s->cut) cut(weights);
    free(weights);
    free(config);
    return 0;
}

static sqz_status export_spoilt(spoil *s, sqz_error *err)
{
    char *text = path_format(
        "{\"schema\":\"sqz.job/1\",\"job\":\"test\",\"store\":\"%s/store\",\"threads\":2,"
        "\"plugins\":{\"path\":[\"" SQZ_PLUGIN_DIR "\"]},\"model\":\"" EXAMPLE "/model\","
        "\"compute\":\"fp32\",\"tasks\":[{\"task\":\"steps\",\"steps\":[{\"use\":\"rtn\",\"with\":"
        "{\"bits\":4}}]},{\"task\":\"export\",\"output\":\"%s/out\"}]}",
        scratch, scratch);
    cJSON *job = cJSON_Parse(text), *result = NULL;
    job_context ctx = {.tick = spoil_at_the_check, .ctx = s};
    sqz_status st = job_execute(job, &ctx, &result, err);
    cJSON_Delete(result);
    cJSON_Delete(job);
    free(text);
    return st;
}

START_TEST(what_changed_is_named)
{
    spoil cases[] = {
        {.tensor = Q0 ".qweight", .says = Q0 DIFFERS},
        {.tensor = DOWN3 ".scales", .says = DOWN3 DIFFERS},
        {.tensor = DOWN3 ".qzeros", .says = DOWN3 DIFFERS},
        {.tensor = Q0 ".g_idx", .says = Q0},
        {.tensor = "model.norm.weight",
         .says = "model.norm.weight is not bit-identical to the source"},
        {.tensor = "model.embed_tokens.weight",
         .says = "model.embed_tokens.weight is not bit-identical to the source"},
        {.text = "1e-05", .with = "1e-02", .says = "logits differ by up to"},
        {.cut = 1, .says = "model.safetensors"},
        {.says = NULL},
    };
    char *out = path_format("%s/out", scratch), *tmp = written("");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spoil *s = &cases[i];
        sqz_error err = {0};
        sqz_status st = export_spoilt(s, &err);
        ck_assert_int_eq(s->times, 1);
        ck_assert_msg((st != SQZ_OK) == (s->says != NULL), "case %zu: %d, %s", i, st, err.text);
        ck_assert_msg(!s->says || strstr(err.text, s->says), "case %zu: %s", i, err.text);
        ck_assert_msg(!s->says || strstr(err.text, "load-back"), "case %zu: %s", i, err.text);
        ck_assert_int_eq(path_exists(out), s->says == NULL);
        ck_assert_int_eq(path_exists(tmp), 0);
    }
    free(out);
    free(tmp);
}
END_TEST

int main(void)
{
    setenv("SQZ_EXE", SQZ_BUILD_DIR "/bin/sqz", 1); /* plugins are scanned by the program */
    Suite *s = suite_create("load_back");
    TCase *t = tcase_create("export");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, what_changed_is_named);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK); /* thread pools do not survive a fork */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
