/* html.h - pieces of report.html that live in files of their own. */
#ifndef SQZ_CORE_REPORT_HTML_H
#define SQZ_CORE_REPORT_HTML_H
extern const char report_style[], report_script[];
#endif
