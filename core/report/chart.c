/* chart.c - see chart.h.
 *
 * The y range is that of the front and the dense model; a trial that failed badly would squeeze
 * everything else into a line, so points beyond the range sit on its edge as triangles and tell
 * their true value in words. */
#include "report/chart.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 920, HEIGHT = 470, LEFT = 78, RIGHT = 28, TOP = 22, BOTTOM = 58, MAX_DRAWN = 800 };

/* ---- points ---------------------------------------------------------------------------------- */
static int by_bytes(const void *a, const void *b)
{
    double x = json_num(((const point *)a)->metrics, "bytes", INFINITY);
    double y = json_num(((const point *)b)->metrics, "bytes", INFINITY);
    if (x != y) return x < y ? -1 : 1;
    return strcmp(json_str(((const point *)a)->trial, "strategy_id", ""),
                  json_str(((const point *)b)->trial, "strategy_id", ""));
}

static int is_member(const facts *f, const cJSON *trial)
{
    const cJSON *m;
    const char *id = json_str(trial, "strategy_id", "");
    cJSON_ArrayForEach(m,
                       f->members) if (strcmp(json_str(m, "strategy_id", "?"), id) == 0) return 1;
    return 0;
}

static void add_point(points *p, const cJSON *trial, point_kind kind)
{
    const cJSON *m = json_get(trial, "metrics");
    if (!isfinite(json_num(m, "quality", NAN)) && kind != POINT_FRONT) return;
    if (kind == POINT_DOMINATED && p->n >= MAX_DRAWN) {
        p->thinned++;
        return;
    }
    p->at[p->n] = (point){trial, m, kind, 0, p->n};
    p->n++;
}

void points_make(const facts *f, points *p)
{
    const cJSON *t;
    int room = cJSON_GetArraySize(f->members) + cJSON_GetArraySize(f->data->trials) + 1;
    *p = (points){.at = calloc((size_t)room, sizeof(point))};
    if (!p->at) memory_failed("the report");
    cJSON_ArrayForEach(t, f->members) add_point(p, t, POINT_FRONT);
    qsort(p->at, (size_t)p->n, sizeof *p->at, by_bytes);
    for (int i = 0; i < p->n; i++) p->at[i].number = i + 1, p->at[i].index = i;
    cJSON_ArrayForEach(t, f->data->trials)
    {
        if (is_baseline(t) || strcmp(json_str(t, "outcome", ""), "ok") != 0 || is_member(f, t))
            continue;
        add_point(p, t, json_bool(t, "feasible", 1) ? POINT_DOMINATED : POINT_INFEASIBLE);
    }
}

void points_free(points *p)
{
    free(p->at);
    *p = (points){0};
}

char *point_text(const facts *f, const point *p)
{
    static const char *const kinds[] = {"on the front", "beaten by another", "breaks a constraint"};
    txt t = {0};
    const cJSON *m = p->metrics;
    txt_addf(&t, "%s: %s %s, %s", member_label(p->trial), f->metric,
             show_pm(json_num(m, "quality", NAN), json_num(m, "quality_stderr", NAN)).s,
             show_bytes(json_num(m, "bytes", NAN)).s);
    if (f->dense) txt_addf(&t, ", %s to the dense model", show_drop(f, m).s);
    if (json_get(m, "tpot_ms"))
        txt_addf(&t, ", %s per token", show_ms(json_num(m, "tpot_ms", NAN)).s);
    txt_addf(&t, "; %s", kinds[p->kind]);
    return txt_take(&t);
}

/* ---- scales ---------------------------------------------------------------------------------- */
typedef struct scale {
    double lo, hi;   /* of the data shown */
    double from, to; /* pixels */
    int log;
} scale;

static double place(const scale *s, double v)
{
    double a = s->log ? log(v) : v, lo = s->log ? log(s->lo) : s->lo,
           hi = s->log ? log(s->hi) : s->hi;
    return s->from + (a - lo) / (hi - lo) * (s->to - s->from);
}

static void widen(double *lo, double *hi, double v)
{
    if (!isfinite(v)) return;
    if (!(*lo <= v)) *lo = v;
    if (!(*hi >= v)) *hi = v;
}

static scale x_scale(const facts *f, const points *p, const axis *a)
{
    scale s = {NAN, NAN, LEFT, WIDTH - RIGHT, 0};
    for (int i = 0; i < p->n; i++) widen(&s.lo, &s.hi, json_num(p->at[i].metrics, a->key, NAN));
    widen(&s.lo, &s.hi, json_num(f->dense, a->key, NAN));
    s.log = s.lo > 0 && s.hi / s.lo > 12;
    double pad = s.log ? 0 : (s.hi - s.lo) * 0.06;
    if (!(s.hi > s.lo)) pad = fabs(s.hi) * 0.2 + 1e-9;
    s.lo = s.log ? s.lo / 1.15 : s.lo - pad;
    s.hi = s.log ? s.hi * 1.15 : s.hi + pad;
    return s;
}

static scale y_scale(const facts *f, const points *p, const axis *a)
{
    scale s = {NAN, NAN, HEIGHT - BOTTOM, TOP, 0};
    for (int i = 0; i < p->n && p->at[i].kind == POINT_FRONT; i++) {
        double q = json_num(p->at[i].metrics, a->y, NAN);
        double se = json_num(p->at[i].metrics, a->y_stderr, 0);
        widen(&s.lo, &s.hi, q - 1.96 * se);
        widen(&s.lo, &s.hi, q + 1.96 * se);
    }
    widen(&s.lo, &s.hi, json_num(f->dense, a->y, NAN));
    if (!isfinite(s.lo))
        for (int i = 0; i < p->n; i++) widen(&s.lo, &s.hi, json_num(p->at[i].metrics, a->y, NAN));
    if (!isfinite(s.lo)) s.lo = 0, s.hi = 1;
    double span = s.hi - s.lo, lo = s.lo, hi = s.hi;
    if (!(span > 0)) span = fabs(s.hi) * 0.02 + 1e-6;
    for (int i = 0; i < p->n; i++) { /* others may stretch the range, up to half of it */
        double q = json_num(p->at[i].metrics, a->y, NAN);
        if (q > lo - 0.5 * span && q < hi + 0.5 * span) widen(&s.lo, &s.hi, q);
    }
    s.lo -= 0.08 * span;
    s.hi += 0.08 * span;
    return s;
}

/* Steps of 1, 2, 5 that give about `want` lines. */
static double nice_step(double span, int want)
{
    double raw = span / want, unit = pow(10, floor(log10(raw))), r = raw / unit;
    return unit * (r < 1.5 ? 1 : r < 3.5 ? 2 : r < 7.5 ? 5 : 10);
}

static void tick(txt *t, const scale *s, double v, const char *text, int vertical)
{
    double at = place(s, v);
    if (vertical)
        txt_addf(t,
                 "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text class=tick x=%d y=%.1f "
                 "text-anchor=end>",
                 LEFT, WIDTH - RIGHT, at, at, LEFT - 10, at + 4);
    else
        txt_addf(t,
                 "<line class=grid x1=%.1f x2=%.1f y1=%d y2=%d /><text class=tick x=%.1f y=%d "
                 "text-anchor=middle>",
                 at, at, TOP, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 20);
    txt_html(t, text);
    txt_add(t, "</text>");
}

static void ticks(txt *t, const scale *s, num (*show)(double), int want, int vertical)
{
    if (s->log) {
        static const double steps[] = {1, 2, 5};
        for (int e = (int)floor(log10(s->lo)); e <= (int)ceil(log10(s->hi)); e++)
            for (int k = 0; k < 3; k++) {
                double v = steps[k] * pow(10, e);
                if (v >= s->lo && v <= s->hi) tick(t, s, v, show(v).s, vertical);
            }
        return;
    }
    double step = nice_step(s->hi - s->lo, want);
    int decimals = (int)fmax(0, -floor(log10(step) + 1e-9));
    for (double v = ceil(s->lo / step) * step; v <= s->hi + step * 1e-9; v += step) {
        char text[48];
        snprintf(text, sizeof text, "%.*f", decimals, fabs(v) < step / 2 ? 0 : v);
        tick(t, s, v, vertical ? text : show(v).s, vertical);
    }
}

/* ---- marks ----------------------------------------------------------------------------------- */
/* The best front quality at or below each size: horizontal to the next member, then a step. */
static void staircase(txt *t, const points *p, const axis *a, const scale *x, const scale *y)
{
    double best = NAN, last = NAN;
    txt path = {0};
    int *order = calloc((size_t)p->n + 1, sizeof *order), n = 0;
    if (!order) memory_failed("the report");
    for (int i = 0; i < p->n; i++) {
        if (p->at[i].kind != POINT_FRONT || !isfinite(json_num(p->at[i].metrics, a->key, NAN)))
            continue;
        int k = n++;
        for (; k > 0 && json_num(p->at[order[k - 1]].metrics, a->key, 0) >
                            json_num(p->at[i].metrics, a->key, 0);
             k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    for (int k = 0; k < n; k++) {
        double q = json_num(p->at[order[k]].metrics, a->y, NAN);
        double px = place(x, json_num(p->at[order[k]].metrics, a->key, NAN));
        if (!isfinite(q) || (isfinite(best) && (a->higher ? q <= best : q >= best))) continue;
        if (isfinite(best))
            txt_addf(&path, "H%.1f V%.1f ", px, place(y, q));
        else
            txt_addf(&path, "M%.1f %.1f V%.1f ", px, a->higher ? y->from : y->to, place(y, q));
        best = q, last = px;
    }
    if (isfinite(last)) {
        txt_addf(&path, "H%.1f", x->to);
        char *d = txt_take(&path);
        txt_addf(t, "<path class=area d=\"%s V%.1f Z\"/><path class=stairs d=\"%s\"/>", d,
                 a->higher ? y->from : y->to, d);
        free(d);
    }
    free(path.data);
    free(order);
}

static void dense_lines(txt *t, const facts *f, const axis *a, const scale *x, const scale *y)
{
    double q = json_num(f->dense, a->y, NAN), b = json_num(f->dense, a->key, NAN);
    if (!isfinite(q)) return;
    double py = place(y, q);
    txt_addf(
        t,
        "<g class=dense><title>dense model: %s %s, %s</title><line x1=%d x2=%d y1=%.1f y2=%.1f "
        "/>",
        "quality", show_value(q).s, a->show(b).s, LEFT, WIDTH - RIGHT, py, py);
    if (isfinite(b)) {
        double px = place(x, b);
        txt_addf(t,
                 "<line x1=%.1f x2=%.1f y1=%d y2=%d /><rect x=%.1f y=%.1f width=12 height=12 />"
                 "<text x=%.1f y=%.1f text-anchor=end>dense</text>",
                 px, px, TOP, HEIGHT - BOTTOM, px - 6, py - 6, px - 12, py - 9);
    }
    txt_add(t, "</g>");
}

static void mark(txt *t, const point *p, double px, double py, int off, int numbered)
{
    if (off) { /* beyond the range: a triangle on the edge, pointing out */
        double up = off > 0 ? 1 : -1;
        txt_addf(t, "<path class=mark d=\"M%.1f %.1f l-6 %.1f h12 Z\"/>", px, py - 5 * up, 9 * up);
    } else if (p->kind == POINT_FRONT) {
        txt_addf(t, "<circle class=mark cx=%.1f cy=%.1f r=%d />", px, py, numbered ? 10 : 6);
        if (numbered)
            txt_addf(t, "<text class=no x=%.1f y=%.1f text-anchor=middle>%d</text>", px, py + 3.7,
                     p->number);
    } else if (p->kind == POINT_INFEASIBLE) {
        txt_addf(t, "<path class=mark d=\"M%.1f %.1f l6 6 l-6 6 l-6 -6 Z\"/>", px, py - 6);
    } else {
        txt_addf(t, "<circle class=mark cx=%.1f cy=%.1f r=4 />", px, py);
    }
}

static void draw_point(txt *t, const facts *f, const points *all, const point *p, const axis *a,
                       const scale *x, const scale *y)
{
    static const char *const classes[] = {"front", "dominated", "infeasible"};
    double q = json_num(p->metrics, a->y, NAN), v = json_num(p->metrics, a->key, NAN);
    if (!isfinite(q) || !isfinite(v)) return;
    double px = place(x, v), py = place(y, q);
    int off = q > y->hi ? 1 : q < y->lo ? -1 : 0;
    if (off) py = off > 0 ? TOP + 4 : HEIGHT - BOTTOM - 4;
    char *words = point_text(f, p);
    txt_addf(t, "<g class=\"pt %s%s\" data-i=%d tabindex=%d role=img", classes[p->kind],
             p->trial == f->balanced ? " pick" : "", p->index, p->kind == POINT_FRONT ? 0 : -1);
    if (p->kind == POINT_FRONT) { /* elsewhere the title is the name: thousands of points add up */
        txt_add(t, " aria-label=\"");
        txt_html(t, words);
        txt_add(t, "\"");
    }
    txt_add(t, "><title>");
    txt_html(t, words);
    txt_add(t, "</title>");
    double se = json_num(p->metrics, a->y_stderr, 0);
    if (p->kind == POINT_FRONT && se > 0 && !off) {
        double hi = place(y, fmin(q + 1.96 * se, y->hi)), lo = place(y, fmax(q - 1.96 * se, y->lo));
        txt_addf(t, "<path class=bar d=\"M%.1f %.1f V%.1f M%.1f %.1f h8 M%.1f %.1f h8\"/>", px, hi,
                 lo, px - 4, hi, px - 4, lo);
    }
    if (p->trial == f->balanced) txt_addf(t, "<circle class=ring cx=%.1f cy=%.1f r=15 />", px, py);
    mark(t, p, px, py, off, all->n && f->n_members <= 30);
    txt_add(t, "</g>\n");
    free(words);
}

/* ---- the chart ------------------------------------------------------------------------------- */
int chart_axes(const facts *f, const points *p, axis out[MAX_AXES])
{
    static const axis known[] = {
        {"bytes", "file size", show_bytes, "quality", "quality_stderr", NULL, 0},
        {"bytes", "file size", show_bytes, "perplexity", "perplexity_stderr", "perplexity", 0},
        {"memory_bytes", "peak memory", show_bytes, "quality", "quality_stderr", NULL, 0},
        {"tpot_ms", "time per token", show_ms, "quality", "quality_stderr", NULL, 0},
        {"ttft_ms", "time to first token", show_ms, "quality", "quality_stderr", NULL, 0}};
    int n = 0;
    for (size_t k = 0; k < MAX_AXES; k++) {
        axis a = known[k];
        if (k == 1 && strcmp(f->metric, "perplexity") == 0) continue; /* that is the quality */
        if (!a.y_title) a.y_title = f->metric, a.higher = f->higher;
        int have =
            isfinite(json_num(f->dense, a.key, NAN)) && isfinite(json_num(f->dense, a.y, NAN));
        for (int i = 0; i < p->n; i++)
            have += isfinite(json_num(p->at[i].metrics, a.key, NAN)) &&
                    isfinite(json_num(p->at[i].metrics, a.y, NAN));
        if (have >= (k ? 2 : 1)) out[n++] = a;
    }
    return n;
}

static void describe(txt *t, const facts *f, const points *p, const axis *a)
{
    txt_add(t, "<title>");
    txt_html(t, a->y_title);
    txt_addf(t, " against %s</title><desc>Each point is one compressed model; x is the %s, y the ",
             a->title, a->title);
    txt_html(t, a->y_title);
    txt_addf(t,
             ", where %s is better. %lld models form the front: ", a->higher ? "higher" : "lower",
             (long long)f->n_members);
    int last = (int)f->n_members - 1;
    if (last >= 0 && last < p->n) {
        txt_addf(t, "from %s at %s ", a->show(json_num(p->at[0].metrics, a->key, NAN)).s,
                 show_value(json_num(p->at[0].metrics, a->y, NAN)).s);
        txt_addf(t, "to %s at %s. ", a->show(json_num(p->at[last].metrics, a->key, NAN)).s,
                 show_value(json_num(p->at[last].metrics, a->y, NAN)).s);
    }
    txt_add(t, "The table below holds the same data.</desc>");
}

void chart_svg(txt *t, const facts *f, const points *p, const axis *a, const char *id)
{
    scale x = x_scale(f, p, a), y = y_scale(f, p, a);
    txt_addf(t, "<svg class=chart id=%s viewBox=\"0 0 %d %d\" role=group>", id, WIDTH, HEIGHT);
    describe(t, f, p, a);
    ticks(t, &x, a->show, 7, 0);
    ticks(t, &y, show_value, 6, 1);
    staircase(t, p, a, &x, &y);
    dense_lines(t, f, a, &x, &y);
    for (int i = p->n - 1; i >= 0; i--) /* the front is drawn last, on top */
        draw_point(t, f, p, &p->at[i], a, &x, &y);
    txt_addf(t,
             "<text class=axis x=%d y=%d text-anchor=middle>%s%s, smaller is better \u2190</text>",
             (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, a->title, x.log ? " (log)" : "");
    txt_addf(t, "<text class=axis transform=\"translate(16 %d) rotate(-90)\" text-anchor=middle>",
             (TOP + HEIGHT - BOTTOM) / 2);
    txt_html(t, a->y_title);
    txt_addf(t, "%s</text></svg>\n",
             a->higher ? ", higher is better \u2192" : ", lower is better \u2190");
}

/* ---- hypervolume after each trial ------------------------------------------------------------ */
void chart_progress(txt *t, const facts *f)
{
    enum { W = 440, H = 72, PAD = 6 };
    const cJSON *history = json_get(json_get(f->data->metrics, "hypervolume"), "history"), *h;
    int n = cJSON_GetArraySize(history), i = 0, settled = 0;
    double top = 0;
    cJSON_ArrayForEach(h, history) top = fmax(top, json_num(h, "hypervolume", 0));
    if (n < 2 || !(top > 0)) return;
    cJSON_ArrayForEach(h, history)
    {
        i++;
        if (json_num(h, "hypervolume", 0) < 0.999 * top) settled = i;
    }
    txt_addf(t,
             "<figure><svg class=spark viewBox=\"0 0 %d %d\" role=img><title>Hypervolume of the "
             "front after each of %d trials</title><path class=line d=\"",
             W, H, n);
    i = 0;
    cJSON_ArrayForEach(h, history)
    {
        double y = fmax(0, json_num(h, "hypervolume", 0)) / top;
        txt_addf(t, "%s%.1f %.1f ", i ? "L" : "M", PAD + (double)i / (n - 1) * (W - 2 * PAD),
                 H - PAD - y * (H - 2 * PAD));
        i++;
    }
    txt_addf(t,
             "\"/></svg><figcaption>Hypervolume of the front after each trial; 99.9 %% of it was "
             "there after trial %d of %d.</figcaption></figure>",
             settled + 1, n);
}
