/* size.c - "8GB" and "1h30m" as numbers. */
#include "config/config.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct unit {
    const char *name;
    double factor;
} unit;

/* The factor of the unit word at *p (letters only), which *p then stands behind; 0 = unknown. */
static double unit_factor(const char **p, const unit *units, int n)
{
    size_t k = 0;
    while (isalpha((unsigned char)(*p)[k])) k++;
    for (int i = 0; i < n; i++)
        if (strlen(units[i].name) == k && !strncasecmp(*p, units[i].name, k)) {
            *p += k;
            return units[i].factor;
        }
    return 0;
}

/* A plain decimal number: strtod alone would take "inf", "nan" and hexadecimal. */
static int read_number(const char **p, double *x)
{
    while (isspace((unsigned char)**p)) (*p)++;
    if (!isdigit((unsigned char)**p) && **p != '.') return 0;
    if ((*p)[0] == '0' && ((*p)[1] == 'x' || (*p)[1] == 'X')) return 0;
    char *end;
    *x = strtod(*p, &end);
    if (end == *p || !isfinite(*x)) return 0;
    *p = end;
    while (isspace((unsigned char)**p)) (*p)++;
    return 1;
}

int config_parse_bytes(const char *text, double *bytes)
{
    static const unit units[] = {
        {"B", 1},
        {"K", 1e3},
        {"KB", 1e3},
        {"M", 1e6},
        {"MB", 1e6},
        {"G", 1e9},
        {"GB", 1e9},
        {"T", 1e12},
        {"TB", 1e12},
        {"KiB", 1024.0},
        {"MiB", 1048576.0},
        {"GiB", 1073741824.0},
        {"TiB", 1099511627776.0},
    };
    double x;
    if (!read_number(&text, &x)) return 0;
    if (*text) {
        double f = unit_factor(&text, units, (int)(sizeof units / sizeof units[0]));
        if (f == 0 || *text) return 0;
        x *= f;
    }
    if (!isfinite(x) || x > 9e18) return 0;
    *bytes = floor(x);
    return 1;
}

int config_parse_seconds(const char *text, double *seconds)
{
    static const unit units[] = {
        {"ms", 1e-3}, {"s", 1},    {"sec", 1},   {"m", 60},
        {"min", 60},  {"h", 3600}, {"hr", 3600}, {"d", 86400},
    };
    double total = 0, x;
    int parts = 0;
    while (*text) {
        if (!read_number(&text, &x)) return 0;
        if (!*text) {
            if (parts) /* "1h30" could mean minutes or seconds */
                return 0;
            *seconds = x;
            return 1;
        }
        double f = unit_factor(&text, units, (int)(sizeof units / sizeof units[0]));
        if (f == 0) return 0;
        total += x * f;
        parts++;
        while (isspace((unsigned char)*text)) text++;
    }
    if (!parts || !isfinite(total) || total > 1e12) return 0;
    *seconds = total;
    return 1;
}
