/* test_catalogue.c - finding and describing plugins: stamps, scans that crash, hang or lie, the
 * cache and the deny list, search order and names. */
#include "hash/sha256.h"
#include "host/host.h"
#include "host/stamp.h"
#include "io/file.h"
#include <check.h>
#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *work; /* a fresh folder for each test */

static void setup(void)
{
    char name[] = "/tmp/sqz-catalogue-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(name));
    work = path_format("%s", name);
    setenv("SQZ_EXE", SQZ_DOUBLE, 1);
    /* Sanitizers would turn a plugin's crash into an exit status. */
    setenv("ASAN_OPTIONS", "handle_segv=0:handle_sigbus=0:handle_abort=0:detect_leaks=0", 1);
    unsetenv("SQZ_PLUGIN_PATH");
}

static void teardown(void)
{
    dir_remove(work, NULL);
    free(work);
}

static void copy(const char *from, const char *to)
{
    char *data;
    int64_t bytes;
    sqz_error err;
    ck_assert_msg(file_read(from, 64 << 20, &data, &bytes, &err) == SQZ_OK, "%s", err.text);
    ck_assert_msg(file_write(to, data, bytes, &err) == SQZ_OK, "%s", err.text);
    free(data);
}

/* Puts BAD_DIR/NAME.so into work/FOLDER/AS.so and returns the folder. */
static char *place(const char *name, const char *folder, const char *as)
{
    char *dir = path_format("%s/%s", work, folder);
    char *from = path_format("%s/%s.so", BAD_DIR, name), *to = path_format("%s/%s.so", dir, as);
    ck_assert_int_eq(dir_make(dir, NULL), SQZ_OK);
    copy(from, to);
    free(from);
    free(to);
    return dir;
}

static catalogue *open_with(catalogue_options options)
{
    sqz_error err = {0};
    catalogue *c = NULL;
    char *cache = path_format("%s/cache", work);
    options.cache_dir = cache;
    options.only_paths = 1;
    ck_assert_msg(catalogue_open(&options, &c, &err) == SQZ_OK, "%s", err.text);
    free(cache);
    return c;
}

static catalogue *open_dir(const char *dir)
{
    return open_with((catalogue_options){.paths = &dir, .n_paths = 1, .scan_timeout_s = 2});
}

/* The only problem's text; the catalogue must offer nothing. */
static char *only_problem(const char *plugin)
{
    const char *file, *why;
    char *dir = place(plugin, "p", plugin);
    catalogue *c = open_dir(dir);
    free(dir);
    ck_assert_int_eq(catalogue_count(c), 0);
    ck_assert_int_eq(catalogue_problems(c), 1);
    catalogue_problem(c, 0, &file, &why);
    ck_assert_ptr_nonnull(strstr(file, plugin));
    char *text = path_format("%s", why);
    catalogue_close(c);
    return text;
}

#define says(text, part)                                                                           \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" lacks \"%s\"", text, part)

/* ---- describing
 * --------------------------------------------------------------------------------------- */
START_TEST(describes_agents_and_parameters)
{
    sqz_error err;
    const agent_info *a;
    char *dir = place("witness", "p", "w");
    catalogue *c = open_dir(dir);
    ck_assert_int_eq(catalogue_problems(c), 0);
    ck_assert_int_eq(catalogue_count(c), 2);
    ck_assert_int_eq(catalogue_find(c, "witness/1", "witness", &a, &err), SQZ_OK);
    ck_assert_str_eq(a->id, "org.example.witness");
    ck_assert_str_eq(a->version, "1.2.3");
    ck_assert_int_eq(a->rank, 100);
    ck_assert(digest_valid(a->file_digest));
    ck_assert_int_eq(cJSON_GetArraySize(a->params), 7);
    char *row = json_canonical(cJSON_GetArrayItem(a->params, 0));
    ck_assert_str_eq(
        row, "{\"choices\":[2,3,4,8],\"default\":4,\"flags\":[\"search\"],\"help\":\"bits per "
             "weight\",\"hi\":8,\"lo\":2,\"name\":\"bits\",\"type\":\"int\"}");
    free(row);
    row = json_canonical(cJSON_GetArrayItem(a->params, 4));
    ck_assert_str_eq(
        row, "{\"choices\":[\"none\",\"static\",\"group\"],\"default\":\"static\",\"flags\":[],"
             "\"help\":\"column order\",\"name\":\"order\",\"type\":\"choice\"}");
    free(row);
    ck_assert_ptr_eq(catalogue_best(c, "witness/1"), a);
    ck_assert_ptr_null(catalogue_best(c, "method/1"));
    catalogue_close(c);
    free(dir);
}
END_TEST

/* Known extension tables of the real plugins, when they are built: facts without loading. */
START_TEST(reads_facts_of_known_extensions)
{
    int methods = 0;
    if (!path_is_dir(SQZ_PLUGIN_DIR)) return;
    catalogue *c = open_dir(SQZ_PLUGIN_DIR);
    for (int i = 0; i < catalogue_count(c); i++) {
        const agent_info *a = catalogue_at(c, i);
        if (strcmp(a->kind, "method/1") != 0) continue;
        const cJSON *steps = json_get(a->extensions, SQZ_METHOD_STEPS_1);
        ck_assert_msg(steps != NULL, "%s", a->id);
        ck_assert_int_eq(json_int(steps, "granularity", 0), SQZ_PER_LINEAR);
        ck_assert_str_eq(json_str(steps, "form", ""), SQZ_FORM_INT_AFFINE);
        methods++;
    }
    for (int i = 0; i < catalogue_problems(c); i++) {
        const char *file, *why;
        catalogue_problem(c, i, &file, &why);
        ck_abort_msg("%s", why);
    }
    printf("%d methods described\n", methods);
    catalogue_close(c);
}
END_TEST

/* ---- refusals before any code runs
 * ---------------------------------------------------------------------- */
START_TEST(wrong_major_names_both_versions_file_and_remedy)
{
    char *why = only_problem("wrong_major");
    says(why, "/p/wrong_major.so: is built for plugin ABI 2, sqz ");
    says(why, "speaks ABI 1");
    says(why, "install a build of the plugin for ABI 1, or a newer sqz");
    free(why);
}
END_TEST

START_TEST(newer_minor_is_refused)
{
    char *why = only_problem("newer_needs");
    says(why, "needs plugin ABI 1.9");
    says(why, "install a newer sqz");
    free(why);
}
END_TEST

START_TEST(missing_stamp_is_refused)
{
    char *why = only_problem("no_stamp");
    says(why, "carries no .sqz.abi stamp");
    says(why, "SQZ_PLUGIN_STAMP");
    free(why);
}
END_TEST

START_TEST(missing_entry_names_the_other_major)
{
    char *why = only_problem("no_entry");
    says(why, "exports only sqz_plugin_v2");
    free(why);
}
END_TEST

START_TEST(bad_tables_are_named)
{
    char *why = only_problem("bad_default");
    says(why, "org.example.bad_default");
    says(why, "parameter \"bits\": its default is none of its choices");
    free(why);
}
END_TEST

START_TEST(undefined_symbol_gives_the_loaders_words)
{
    char *why = only_problem("undefined_symbol");
    says(why, "cannot be loaded");
    says(why, "nobody_offers_this");
    free(why);
}
END_TEST

/* Every truncation and every flipped byte of the header region gives a message, never a crash. */
START_TEST(stamp_reader_survives_damage)
{
    char *good, *path = path_format("%s/x.so", work), *from = path_format("%s/segv.so", BAD_DIR);
    int64_t bytes;
    sqz_error err;
    plugin_stamp stamp;
    ck_assert_int_eq(stamp_read(from, &stamp, &err), SQZ_OK);
    ck_assert_int_eq(stamp.major, 1);
    ck_assert_int_eq(stamp.needs_minor, 0);
    ck_assert_int_eq(file_read(from, 64 << 20, &good, &bytes, &err), SQZ_OK);
    for (int64_t n = 0; n < bytes; n += n < 128 ? 1 : 509) {
        FILE *f = fopen(path, "wb");
        fwrite(good, 1, (size_t)n, f);
        fclose(f);
        ck_assert_int_eq(stamp_read(path, &stamp, &err), ERR_PLUGIN);
        says(err.text, "x.so");
    }
    Elf64_Ehdr header;
    memcpy(&header, good, sizeof header);
    int64_t table = (int64_t)header.e_shoff;
    for (int64_t at = 0; at < bytes; at = at == 63 ? table : at + 1) {
        char saved = good[at];
        good[at] = (char)~good[at];
        FILE *f = fopen(path, "wb");
        fwrite(good, 1, (size_t)bytes, f);
        fclose(f);
        sqz_status status = stamp_read(path, &stamp, &err);
        ck_assert(status == SQZ_OK || status == ERR_PLUGIN);
        good[at] = saved;
    }
    free(good);
    free(path);
    free(from);
}
END_TEST

/* ---- scans that go wrong
 * ---------------------------------------------------------------------------------- */
START_TEST(crash_in_scan_is_told)
{
    char *why = only_problem("segv_in_entry");
    says(why, "crashed (Segmentation fault) while being scanned");
    free(why);
}
END_TEST

START_TEST(denied_file_is_not_opened_until_it_changes)
{
    const char *file, *why;
    char *dir = place("exit_in_constructor", "p", "x"), *path = path_format("%s/x.so", dir);
    catalogue *c = open_dir(dir);
    catalogue_problem(c, 0, &file, &why);
    says(why,
         "ended the process (exit status 0) before it was described: licence server not found");
    catalogue_close(c);
    c = open_dir(dir);
    catalogue_problem(c, 0, &file, &why);
    says(why, "not opened again until the file or sqz changes");
    says(why, "cache/denied-");
    catalogue_close(c);
    /* A new time with the same bytes is no change... */
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    ck_assert_int_eq(utimensat(0, path, times, 0), 0);
    c = open_dir(dir);
    catalogue_problem(c, 0, &file, &why);
    says(why, "not opened again");
    catalogue_close(c);
    /* ...other bytes are. */
    char *good = path_format("%s/witness.so", BAD_DIR);
    copy(good, path);
    c = open_dir(dir);
    ck_assert_int_eq(catalogue_problems(c), 0);
    ck_assert_int_eq(catalogue_count(c), 2);
    catalogue_close(c);
    free(good);
    free(path);
    free(dir);
}
END_TEST

START_TEST(hanging_scan_is_killed)
{
    char *why = only_problem("hang_in_constructor");
    says(why, "did not finish being scanned within 2 s");
    free(why);
}
END_TEST

/* A busy machine makes scans late, too: a second try has twice the time, only a third is none. */
START_TEST(slow_scan_has_a_second_try)
{
    static const char *const said[] = {"within 0.2 s", "within 0.4 s", "not opened again"};
    char *dir = place("hang_in_constructor", "p", "x"), *path = path_format("%s/x.so", dir);
    char *good = path_format("%s/witness.so", BAD_DIR);
    const char *file, *why;
    for (int i = 0; i < 3; i++) {
        catalogue *c = open_with((catalogue_options){
            .paths = (const char *const *)&dir, .n_paths = 1, .scan_timeout_s = 0.2});
        ck_assert_int_eq(catalogue_problems(c), 1);
        catalogue_problem(c, 0, &file, &why);
        says(why, said[i]);
        if (i < 2) ck_assert_ptr_null(strstr(why, "cache/denied-"));
        catalogue_close(c);
    }
    copy(good, path);
    catalogue *c = open_dir(dir);
    ck_assert_int_eq(catalogue_problems(c), 0);
    catalogue_close(c);
    free(good);
    free(path);
    free(dir);
}
END_TEST

START_TEST(a_program_that_cannot_scan_denies_nothing)
{
    const char *file, *why;
    char *dir = place("witness", "p", "w");
    setenv("SQZ_EXE", "/bin/true", 1);
    catalogue *c = open_dir(dir);
    ck_assert_int_eq(catalogue_count(c), 0);
    catalogue_problem(c, 0, &file, &why);
    says(why, "does not answer --scan-plugin");
    catalogue_close(c);
    setenv("SQZ_EXE", SQZ_DOUBLE, 1);
    c = open_dir(dir);
    ck_assert_int_eq(catalogue_count(c), 2);
    catalogue_close(c);
    free(dir);
}
END_TEST

/* ---- cache
 * --------------------------------------------------------------------------------------------------
 */
/* The descriptions of programs that scanned: how many files; first (may be NULL) is one of them. */
static int cache_files(char **first)
{
    glob_t found = {0};
    char *pattern = path_format("%s/cache/plugins-*.json", work);
    int n = glob(pattern, 0, NULL, &found) ? 0 : (int)found.gl_pathc;
    if (first) *first = path_format("%s", n ? found.gl_pathv[0] : "");
    globfree(&found);
    free(pattern);
    return n;
}

START_TEST(cached_description_needs_no_scan)
{
    char *dir = place("witness", "p", "w"), *cache;
    char *text, *double_copy = path_format("%s/program", work);
    int64_t bytes;
    catalogue_close(open_dir(dir));
    ck_assert_int_eq(cache_files(&cache), 1);
    /* What the cache says is believed: change the summary there and see it come back. */
    ck_assert_int_eq(file_read(cache, 1 << 20, &text, &bytes, NULL), SQZ_OK);
    char *at = strstr(text, "tells what it was given");
    ck_assert_ptr_nonnull(at);
    memcpy(at, "TELLS", 5);
    ck_assert_int_eq(file_write(cache, text, bytes, NULL), SQZ_OK);
    catalogue *c = open_dir(dir);
    ck_assert_str_eq(catalogue_at(c, 0)->summary, "TELLS what it was given");
    catalogue_close(c);
    /* Another program scans anew. */
    copy(SQZ_DOUBLE, double_copy);
    chmod(double_copy, 0755);
    setenv("SQZ_EXE", double_copy, 1);
    c = open_dir(dir);
    ck_assert_str_eq(catalogue_at(c, 0)->summary, "tells what it was given");
    catalogue_close(c);
    /* and costs the first one nothing */
    setenv("SQZ_EXE", SQZ_DOUBLE, 1);
    c = open_dir(dir);
    ck_assert_str_eq(catalogue_at(c, 0)->summary, "TELLS what it was given");
    catalogue_close(c);
    /* A broken cache costs a scan, no more. */
    ck_assert_int_eq(file_write(cache, "{\"schema\":", 10, NULL), SQZ_OK);
    c = open_dir(dir);
    ck_assert_int_eq(catalogue_count(c), 2);
    catalogue_close(c);
    free(text);
    free(double_copy);
    free(cache);
    free(dir);
}
END_TEST

/* Programs come and go: the answers of the eight that were used last are kept. */
START_TEST(caches_are_bounded)
{
    char *dir = place("witness", "p", "w"), *cache;
    catalogue_close(open_dir(dir));
    ck_assert_int_eq(cache_files(&cache), 1);
    char *oldest = path_format("%s/cache/plugins-000000000000.json", work);
    for (int i = 0; i < 10; i++) {
        char *other = path_format("%s/cache/plugins-%012d.json", work, i);
        const struct timespec when[2] = {{1000 + i, 0}, {1000 + i, 0}};
        ck_assert_int_eq(file_write(other, "{}", 2, NULL), SQZ_OK);
        ck_assert_int_eq(utimensat(AT_FDCWD, other, when, 0), 0);
        free(other);
    }
    const struct timespec older[2] = {{1, 0}, {1, 0}};
    ck_assert_int_eq(utimensat(AT_FDCWD, cache, older, 0), 0);
    catalogue_close(open_dir(dir)); /* in use: not the oldest any more */
    char *double_copy = path_format("%s/program", work);
    copy(SQZ_DOUBLE, double_copy);
    chmod(double_copy, 0755);
    setenv("SQZ_EXE", double_copy, 1);
    catalogue_close(open_dir(dir));
    ck_assert_int_eq(cache_files(NULL), 8);
    ck_assert_int_eq(path_exists(oldest), 0);
    ck_assert_int_eq(path_exists(cache), 1);
    free(double_copy);
    free(oldest);
    free(cache);
    free(dir);
}
END_TEST

/* ---- search order, allow, deny, names
 * ---------------------------------------------------------------------- */
START_TEST(first_found_wins_and_the_other_is_shadowed)
{
    const agent_info *a;
    char *one = place("witness", "one", "w"), *two = place("witness", "two", "w");
    const char *paths[] = {two, one, two};
    catalogue *c = open_with((catalogue_options){.paths = paths, .n_paths = 3});
    ck_assert_int_eq(catalogue_count(c), 4);
    ck_assert_int_eq(catalogue_find(c, NULL, "witness", &a, NULL), SQZ_OK);
    says(a->file, "/two/");
    ck_assert(catalogue_at(c, 2)->shadowed);
    says(catalogue_at(c, 2)->file, "/one/");
    says(catalogue_at(c, 2)->shadowed_by, "/two/");
    catalogue_close(c);
    free(one);
    free(two);
}
END_TEST

START_TEST(environment_path_takes_absolute_entries_only)
{
    const char *file, *why;
    sqz_error err;
    catalogue *c;
    char *dir = place("witness", "env", "w"), *cache = path_format("%s/cache", work);
    char *list = path_format("relative::%s", dir), *bin = path_format("%s/bin/sqz", work);
    int found = 0, relative = 0;
    ck_assert_int_eq(dir_make(bin, NULL), SQZ_OK);
    setenv("SQZ_PLUGIN_PATH", list, 1);
    setenv("HOME", work, 1);
    unsetenv("XDG_DATA_HOME");
    catalogue_options options = {.cache_dir = cache};
    ck_assert_msg(catalogue_open(&options, &c, &err) == SQZ_OK, "%s", err.text);
    for (int i = 0; i < catalogue_count(c); i++)
        found += !strcmp(catalogue_at(c, i)->id, "org.example.witness");
    for (int i = 0; i < catalogue_problems(c); i++) {
        catalogue_problem(c, i, &file, &why);
        relative += !strcmp(file, "relative");
    }
    ck_assert_int_eq(found, 1);
    ck_assert_int_eq(relative, 1);
    catalogue_close(c);
    free(dir);
    free(cache);
    free(list);
    free(bin);
}
END_TEST

START_TEST(allow_and_deny_by_short_name_or_id)
{
    sqz_error err;
    const agent_info *a;
    char *dir = place("witness", "p", "w");
    const char *silent = "silent", *witness = "org.example.witness", *path = dir;
    catalogue *c =
        open_with((catalogue_options){.paths = &path, .n_paths = 1, .deny = &silent, .n_deny = 1});
    ck_assert_int_eq(catalogue_count(c), 1);
    ck_assert_int_eq(catalogue_find(c, "witness/1", "silent", &a, &err), ERR_USAGE);
    says(err.text, "excluded by plugins.allow or plugins.deny");
    catalogue_close(c);
    c = open_with(
        (catalogue_options){.paths = &path, .n_paths = 1, .allow = &witness, .n_allow = 1});
    ck_assert_int_eq(catalogue_count(c), 1);
    ck_assert_str_eq(catalogue_at(c, 0)->id, witness);
    catalogue_close(c);
    free(dir);
}
END_TEST

START_TEST(unknown_name_suggests_the_nearest)
{
    sqz_error err;
    const agent_info *a;
    char *dir = place("witness", "p", "w");
    catalogue *c = open_dir(dir);
    ck_assert_int_eq(catalogue_find(c, "witness/1", "witnes", &a, &err), ERR_USAGE);
    says(err.text, "unknown witness \"witnes\"; did you mean \"witness\"?");
    says(err.text, "known: witness, silent");
    ck_assert_int_eq(catalogue_find(c, "method/1", "witness", &a, &err), ERR_USAGE);
    says(err.text, "known: none");
    ck_assert_int_eq(catalogue_find(c, "witness/1", "org.example.silent", &a, &err), SQZ_OK);
    catalogue_close(c);
    free(dir);
}
END_TEST

START_TEST(world_writable_and_missing_paths)
{
    const char *file, *why, *missing = "/nonexistent/plugins";
    catalogue *c = NULL;
    sqz_error err;
    char *dir = place("witness", "p", "w"), *path = path_format("%s/w.so", dir);
    chmod(path, 0666);
    c = open_dir(dir);
    ck_assert_int_eq(catalogue_count(c), 0);
    catalogue_problem(c, 0, &file, &why);
    says(why, "writable by everyone; run chmod o-w");
    catalogue_close(c);
    catalogue_options options = {
        .paths = &missing, .n_paths = 1, .only_paths = 1, .cache_dir = work};
    ck_assert_int_eq(catalogue_open(&options, &c, &err), ERR_USAGE);
    says(err.text, "/nonexistent/plugins");
    free(path);
    free(dir);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("catalogue");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, describes_agents_and_parameters);
    tcase_add_test(t, reads_facts_of_known_extensions);
    tcase_add_test(t, wrong_major_names_both_versions_file_and_remedy);
    tcase_add_test(t, newer_minor_is_refused);
    tcase_add_test(t, missing_stamp_is_refused);
    tcase_add_test(t, missing_entry_names_the_other_major);
    tcase_add_test(t, bad_tables_are_named);
    tcase_add_test(t, undefined_symbol_gives_the_loaders_words);
    tcase_add_test(t, stamp_reader_survives_damage);
    tcase_add_test(t, crash_in_scan_is_told);
    tcase_add_test(t, denied_file_is_not_opened_until_it_changes);
    tcase_add_test(t, hanging_scan_is_killed);
    tcase_add_test(t, slow_scan_has_a_second_try);
    tcase_add_test(t, a_program_that_cannot_scan_denies_nothing);
    tcase_add_test(t, cached_description_needs_no_scan);
    tcase_add_test(t, caches_are_bounded);
    tcase_add_test(t, first_found_wins_and_the_other_is_shadowed);
    tcase_add_test(t, environment_path_takes_absolute_entries_only);
    tcase_add_test(t, allow_and_deny_by_short_name_or_id);
    tcase_add_test(t, unknown_name_suggests_the_nearest);
    tcase_add_test(t, world_writable_and_missing_paths);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
