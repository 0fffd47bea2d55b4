/* Strict JSON: what is refused and where, what comments leave, what is written back. */
#include "json/json.h"
#include "scratch.h"
#include <math.h>
#include <string.h>

static json_doc *parse(const char *text, int flags)
{
    json_doc *d = NULL;
    sqz_error err = {0};
    sqz_status st = json_parse(text, (int64_t)strlen(text), flags, "t.json", &d, &err);
    ck_assert_msg(st == SQZ_OK, "%s refused: %s", text, err.text);
    return d;
}

/* Text that must be refused, and how the message begins. */
static const struct {
    const char *text, *message;
    int flags;
} refused[] = {
    {"", "t.json:1:1: empty", 0},
    {" \n ", "t.json:2:2: empty", 0},
    {"{", "t.json:1:2: the text ends", 0},
    {"[1,2", "t.json:1:5: the text ends", 0},
    {"[1,2]]", "t.json:1:6: unexpected text", 0},
    {"{}{}", "t.json:1:3: unexpected text", 0},
    {"[1 2]", "t.json:1:4: expected ','", 0},
    {"{\"a\" 1}", "t.json:1:6: expected ':'", 0},
    {"{a:1}", "t.json:1:2: expected a key", 0},
    {"{\"a\":1,}", "t.json:1:7: comma after", 0},
    {"[1,]", "t.json:1:3: comma after", 0},
    {"[,1]", "t.json:1:2: expected a value", 0},
    {"[,]", "t.json:1:2: expected a value", JSON_COMMENTS},
    {"[1,,]", "t.json:1:4: expected a value", JSON_COMMENTS},
    {"// x\n1", "t.json:1:1: comments are not", 0},
    {"[1, /* never closed", "t.json:1:5: comment without", JSON_COMMENTS},
    {"{\n  \"a\": 1,\n  \"b\": 2,\n  \"a\": 3\n}", "t.json:4:3: duplicate key \"a\"", 0},
    {"{\"a\":1,\"\\u0061\":2}", "t.json:1:8: duplicate key \"a\"", 0},
    {"[01]", "t.json:1:2: not a number", 0},
    {"[1.]", "t.json:1:2: not a number", 0},
    {"[.5]", "t.json:1:2: expected a value", 0},
    {"[+1]", "t.json:1:2: expected a value", 0},
    {"[1e]", "t.json:1:2: not a number", 0},
    {"[0x10]", "t.json:1:3: expected ','", 0},
    {"[-]", "t.json:1:2: not a number", 0},
    {"[1e999]", "t.json:1:2: number too large", 0},
    {"[NaN]", "t.json:1:2: numbers must be finite", 0},
    {"[-Infinity]", "t.json:1:2: numbers must be finite", 0},
    {"[1111111111222222222233333333334444444444555555555566666666667777]",
     "t.json:1:2: number of more than 63", 0},
    {"\"abc", "t.json:1:1: string without", 0},
    {"\"a\nb\"", "t.json:1:1: string without", 0},
    {"\"a\tb\"", "t.json:1:3: control character", 0},
    {"\"\\x\"", "t.json:1:2: unknown escape", 0},
    {"\"\\u12g4\"", "t.json:1:2: \\u needs four", 0},
    {"\"\\u0000\"", "t.json:1:2: \\u0000", 0},
    {"\"\\ud800\"", "t.json:1:2: half of a surrogate", 0},
    {"\"\\udc00\\ud800\"", "t.json:1:2: half of a surrogate", 0},
    {"\"\xC3\"", "t.json:1:2: invalid UTF-8", 0},
    {"\"\xC0\xAF\"", "t.json:1:2: invalid UTF-8", 0},
    {"\"\xED\xA0\x80\"", "t.json:1:2: invalid UTF-8", 0},
    {"\"\xF4\x90\x80\x80\"", "t.json:1:2: invalid UTF-8", 0},
    {"tru", "t.json:1:1: expected a value", 0},
    {"nul", "t.json:1:1: expected a value", 0},
};

START_TEST(refuses)
{
    json_doc *d = NULL;
    sqz_error err = {0};
    const char *text = refused[_i].text;
    sqz_status st = json_parse(text, (int64_t)strlen(text), refused[_i].flags, "t.json", &d, &err);
    ck_assert_msg(st == SQZ_E_INVALID, "accepted: %s", text);
    ck_assert_msg(!strncmp(err.text, refused[_i].message, strlen(refused[_i].message)),
                  "%s: message '%s', expected '%s...'", text, err.text, refused[_i].message);
    ck_assert_ptr_null(d);
}
END_TEST

START_TEST(refuses_zero_bytes)
{
    json_doc *d;
    ck_assert_int_ne(json_parse("1\0", 2, 0, "t", &d, NULL), SQZ_OK);
    ck_assert_int_ne(json_parse("\"a\0b\"", 5, 0, "t", &d, NULL), SQZ_OK);
}
END_TEST

START_TEST(depth)
{
    char text[200];
    json_doc *d;
    for (int n = 64; n <= 65; n++) {
        memset(text, '[', (size_t)n);
        memset(text + n, ']', (size_t)n);
        sqz_status st = json_parse(text, 2 * n, 0, "t", &d, NULL);
        ck_assert_int_eq(st == SQZ_OK, n == 64);
        if (st == SQZ_OK) json_free(d);
    }
}
END_TEST

START_TEST(comments_keep_positions)
{
    json_doc *d =
        parse("// head\n{ /* \"x\": 9, */ \"a\": [1, 2,], // tail\n"
              "  \"url\": \"http://x/*y*/\", /* two\n lines */ \"deep\": {\"k\": true,},\n}",
              JSON_COMMENTS);
    int line, column;
    const cJSON *root = json_root(d);
    char *text = json_text(root, 0);
    ck_assert_str_eq(text, "{\"a\":[1,2],\"url\":\"http://x/*y*/\",\"deep\":{\"k\":true}}");
    free(text);
    json_where(d, root, &line, &column);
    ck_assert_int_eq(line * 100 + column, 201);
    json_where(d, json_get(root, "url"), &line, &column);
    ck_assert_int_eq(line * 100 + column, 303);
    json_where(d, json_get(root, "deep"), &line, &column);
    ck_assert_int_eq(line * 100 + column, 411);
    json_where(d, json_get(json_get(root, "deep"), "k"), &line, &column);
    ck_assert_int_eq(line * 100 + column, 420);
    cJSON *foreign = cJSON_CreateNull();
    json_where(d, foreign, &line, &column);
    ck_assert_int_eq(line + column, 0);
    cJSON_Delete(foreign);
    json_free(d);
}
END_TEST

START_TEST(columns_count_characters)
{
    json_doc *d = parse("{\"\xC3\xA9\xF0\x9F\x98\x80\": 1, \"b\": 2}", 0);
    int line, column;
    json_where(d, json_get(json_root(d), "b"), &line, &column);
    ck_assert_int_eq(column, 11);
    json_free(d);
}
END_TEST

START_TEST(getters)
{
    json_doc *d = parse("{\"s\":\"x\",\"n\":2.5,\"big\":9007199254740993,\"i\":-3,\"t\":true,"
                        "\"e\":1e3,\"huge\":1e300,\"S\":\"upper\"}",
                        0);
    const cJSON *o = json_root(d);
    ck_assert_str_eq(json_str(o, "s", "-"), "x");
    ck_assert_str_eq(json_str(o, "n", "-"), "-");
    ck_assert_str_eq(json_str(o, "S", "-"), "upper");
    ck_assert_double_eq(json_num(o, "n", 0), 2.5);
    ck_assert_int_eq(json_int(o, "big", 0), 9007199254740992);
    ck_assert_int_eq(json_int(o, "i", 0), -3);
    ck_assert_int_eq(json_int(o, "e", 0), 1000);
    ck_assert_int_eq(json_int(o, "n", 7), 7);
    ck_assert_int_eq(json_int(o, "huge", 7), 7);
    ck_assert_int_eq(json_int(o, "absent", 7), 7);
    ck_assert_int_eq(json_bool(o, "t", 0), 1);
    ck_assert_int_eq(json_bool(o, "i", 5), 5);
    json_free(d);
}
END_TEST

START_TEST(numbers_read_back)
{
    uint64_t x = 88172645463325252u;
    static const double fixed[] = {0.1,
                                   1e22,
                                   5e-324,
                                   1.7976931348623157e308,
                                   9007199254740992.0,
                                   123456789012345678.0,
                                   -0.0,
                                   1.0 / 3,
                                   2.2250738585072011e-308};
    for (int i = 0; i < 2000; i++) {
        double v = 0;
        if (i < 9) {
            v = fixed[i];
        } else {
            do {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                memcpy(&v, &x, sizeof v);
            } while (!isfinite(v));
        }
        cJSON *n = cJSON_CreateNumber(v);
        char *text = json_canonical(n);
        json_doc *d = parse(text, 0);
        double back = json_root(d)->valuedouble;
        ck_assert_msg(!memcmp(&back, &v, sizeof v), "%.17g became %s", v, text);
        json_free(d);
        free(text);
        cJSON_Delete(n);
    }
}
END_TEST

START_TEST(canonical)
{
    json_doc *a = parse("{ \"b\": [1.0, {\"z\": null, \"y\": \"\\u00e9\\/\\n\"}], \"a\": 1e2 }", 0);
    json_doc *b = parse("{\"a\":100,\"b\":[1,{\"y\":\"\xC3\xA9/\\u000a\",\"z\":null}]}", 0);
    char *x = json_canonical(json_root(a)), *y = json_canonical(json_root(b));
    ck_assert_str_eq(x, "{\"a\":100,\"b\":[1,{\"y\":\"\xC3\xA9/\\n\",\"z\":null}]}");
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
    char *pretty = json_text(json_root(b), 1);
    ck_assert_str_eq(pretty, "{\n  \"a\": 100,\n  \"b\": [\n    1,\n    {\n      \"y\": "
                             "\"\xC3\xA9/\\n\",\n      \"z\": null\n    }\n  ]\n}");
    free(pretty);
    json_free(a);
    json_free(b);
}
END_TEST

START_TEST(writes_valid_json_whatever_it_holds)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "s", "\x01\xFF\xE9t\xC3\xA9\"\\");
    cJSON_AddNumberToObject(o, "n", NAN);
    json_add_num(o, "left_out", INFINITY);
    char *text = json_text(o, 0);
    ck_assert_str_eq(text,
                     "{\"s\":\"\\u0001\xEF\xBF\xBD\xEF\xBF\xBDt\xC3\xA9\\\"\\\\\",\"n\":null}");
    json_free(parse(text, 0));
    free(text);
    cJSON_Delete(o);
}
END_TEST

START_TEST(nearest)
{
    static const char *const names[] = {"bits", "group_size", "symmetric", "seed"};
    ck_assert_str_eq(json_nearest("bist", names, 4), "bits");
    ck_assert_str_eq(json_nearest("groupsize", names, 4), "group_size");
    ck_assert_str_eq(json_nearest("symetric", names, 4), "symmetric");
    ck_assert_ptr_null(json_nearest("calibration", names, 4));
    ck_assert_ptr_null(json_nearest("nope", (const char *[]){"cpu"}, 1));
    ck_assert_ptr_null(json_nearest("x", names, 4));
    ck_assert_ptr_null(json_nearest("", names, 4));
}
END_TEST

START_TEST(files)
{
    json_doc *d;
    sqz_error err;
    char *path = path_format("%s/a.json", scratch);
    ck_assert_int_eq(json_read(path, 100, 0, &d, &err), SQZ_E_IO);
    ck_assert_int_eq(file_printf(path, &err, "{\"x\":\n 0%d}", 1), SQZ_OK);
    ck_assert_int_eq(json_read(path, 100, 0, &d, &err), SQZ_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "a.json:2:2: "));
    ck_assert_int_eq(json_read(path, 4, 0, &d, &err), SQZ_E_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "limit of 4"));
    free(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_loop_test(t, refuses, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, refuses_zero_bytes);
    tcase_add_test(t, depth);
    tcase_add_test(t, comments_keep_positions);
    tcase_add_test(t, columns_count_characters);
    tcase_add_test(t, getters);
    tcase_add_test(t, numbers_read_back);
    tcase_add_test(t, canonical);
    tcase_add_test(t, writes_valid_json_whatever_it_holds);
    tcase_add_test(t, nearest);
    tcase_add_test(t, files);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
