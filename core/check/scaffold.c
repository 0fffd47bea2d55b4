/* scaffold.c - see scaffold.h.
 *
 * Templates are plain files in share/sqz/template beside the program: those of `common` and those
 * of the kind, in which @name@, @NAME@ and @id@ are replaced; plugin.c becomes NAME.c. */
#include "check/scaffold.h"
#include "host/program.h"
#include "io/file.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TEMPLATE = 1 << 20, MAX_NAME = 40 };

/* The folder of the templates, also where sqz is installed elsewhere than it was built for. */
static char *template_folder(void)
{
    char *program = program_path(), *slash = program ? strrchr(program, '/') : NULL;
    if (slash) *slash = 0;
    char *folder = slash ? path_format("%s/../share/sqz/template", program) : NULL;
    free(program);
    return folder;
}

char *scaffold_kinds(void)
{
    static const char *const order[] = {"method",   "eval",    "search", "format",
                                        "hardware", "tracker", "data"};
    char *folder = template_folder(), *list = path_format("%s", "");
    for (size_t i = 0; folder && i < sizeof order / sizeof *order; i++) {
        char *kind = path_format("%s/%s/plugin.c", folder, order[i]);
        if (path_exists(kind)) {
            char *longer = path_format("%s%s%s", list, *list ? ", " : "", order[i]);
            free(list);
            list = longer;
        }
        free(kind);
    }
    free(folder);
    return list;
}

static sqz_status check_name(const char *name, sqz_error *err)
{
    size_t n = strlen(name);
    if (n < 2 || n > MAX_NAME || name[0] < 'a' || name[0] > 'z' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
        return err_set(
            err, ERR_USAGE,
            "\"%.80s\" is no name for a plugin: 2 to %d lower-case letters, digits and _, "
            "a letter first",
            name, MAX_NAME);
    return SQZ_OK;
}

typedef struct words {
    const char *name, *id;
    char upper[MAX_NAME + 1];
} words;

/* The text with @name@, @NAME@ and @id@ replaced; caller frees. */
static char *fill_in(const char *text, const words *w)
{
    char *out = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&out, &bytes);
    if (!f) return NULL;
    while (*text) {
        if (strncmp(text, "@name@", 6) == 0)
            fputs(w->name, f), text += 6;
        else if (strncmp(text, "@NAME@", 6) == 0)
            fputs(w->upper, f), text += 6;
        else if (strncmp(text, "@id@", 4) == 0)
            fputs(w->id, f), text += 4;
        else
            fputc(*text++, f);
    }
    fclose(f);
    return out;
}

static sqz_status copy_file(const char *from, const char *to, const words *w, sqz_error *err)
{
    char *text = NULL, *out = NULL;
    int64_t bytes;
    struct stat st;
    sqz_status s = file_read(from, MAX_TEMPLATE, &text, &bytes, err);
    if (!s && !(out = fill_in(text, w))) s = err_set(err, SQZ_E_NOMEM, "%s: no memory", to);
    if (!s) s = file_write(to, out, (int64_t)strlen(out), err);
    if (!s && stat(from, &st) == 0 && chmod(to, st.st_mode & 0777) != 0)
        s = err_set(err, ERR_STORAGE, "%s: %s", to, strerror(errno));
    free(text);
    free(out);
    return s;
}

static sqz_status copy_folder(const char *from, const char *to, const words *w, sqz_error *err)
{
    DIR *d = opendir(from);
    struct dirent *e;
    sqz_status s = SQZ_OK;
    if (!d) return err_set(err, ERR_STORAGE, "%s: %s", from, strerror(errno));
    while (!s && (e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        int source = strcmp(e->d_name, "plugin.c") == 0;
        char *in = path_format("%s/%s", from, e->d_name);
        char *out =
            source ? path_format("%s/%s.c", to, w->name) : path_format("%s/%s", to, e->d_name);
        s = copy_file(in, out, w, err);
        free(in);
        free(out);
    }
    closedir(d);
    return s;
}

static sqz_status check_kind(const char *folder, const char *kind, sqz_error *err)
{
    char *source = path_format("%s/%s/plugin.c", folder ? folder : "", kind);
    int there =
        folder && strspn(kind, "abcdefghijklmnopqrstuvwxyz") == strlen(kind) && path_exists(source);
    free(source);
    if (there) return SQZ_OK;
    if (!folder || !path_is_dir(folder))
        return err_set(err, ERR_STORAGE,
                       "the templates are not there (%s); install sqz whole, with share/sqz",
                       folder ? folder : "no program folder");
    char *kinds = scaffold_kinds();
    err_set(err, ERR_USAGE, "plugins of kind %.40s cannot be made yet: this sqz offers %s", kind,
            kinds);
    free(kinds);
    return ERR_USAGE;
}

sqz_status scaffold_make(const char *kind, const char *name, const char *id, const char *folder,
                         char **made, sqz_error *err)
{
    char *templates = template_folder(), *own_id = path_format("org.example.%s", name);
    words w = {.name = name, .id = id ? id : own_id};
    sqz_status s = check_name(name, err);
    if (!s) s = check_kind(templates, kind, err);
    if (!s && path_exists(folder))
        s = err_set(err, ERR_USAGE,
                    "%s exists already; nothing is overwritten, name another folder", folder);
    if (!s) {
        for (size_t i = 0; i < strlen(name); i++)
            w.upper[i] = name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 32) : name[i];
        char *common = path_format("%s/common", templates),
             *own = path_format("%s/%s", templates, kind);
        s = dir_make(folder, err);
        if (!s) s = copy_folder(common, folder, &w, err);
        if (!s) s = copy_folder(own, folder, &w, err);
        if (s) dir_remove(folder, NULL);
        free(common);
        free(own);
    }
    if (!s) *made = path_format("%s/%s.c", folder, name);
    free(templates);
    free(own_id);
    return s;
}
