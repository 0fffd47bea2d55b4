/* chart.h - the front as an inline SVG: one chart for each quantity that can stand on the x axis.
 */
#ifndef SQZ_CORE_REPORT_CHART_H
#define SQZ_CORE_REPORT_CHART_H
#include "report/facts.h"

typedef enum point_kind { POINT_FRONT, POINT_DOMINATED, POINT_INFEASIBLE } point_kind;
typedef struct point {
    const cJSON *trial; /* a member or a trial record */
    const cJSON *metrics;
    point_kind kind;
    int number; /* 1.. on the front, as in the table; 0 elsewhere */
    int index;  /* in the details that the script shows */
} point;

typedef struct points {
    point *at;
    int n;
    int64_t thinned; /* dominated trials that are not drawn */
} points;
/* Members first, by size; then the other evaluated trials. */
void points_make(const facts *, points *);
void points_free(points *);

typedef struct axis {
    const char *key, *title; /* of x: in the metrics, and for people */
    num (*show)(double);
    const char *y, *y_stderr, *y_title; /* of y */
    int higher;                         /* is better, of y */
} axis;
enum { MAX_AXES = 5 };
/* Axes that at least two points (or one and the dense model) have; the first is the file size. */
int chart_axes(const facts *, const points *, axis out[MAX_AXES]);
void chart_svg(txt *, const facts *, const points *, const axis *, const char *id);
/* Hypervolume of the front after each trial, or nothing when it cannot be told. */
void chart_progress(txt *, const facts *);
/* What a point is, in one plain line: the accessible name and the tooltip without JavaScript. */
char *point_text(const facts *, const point *);
#endif
