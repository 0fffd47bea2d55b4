/* sqz/sqz.h - the whole stable SDK in one include. */
#ifndef SQZ_SQZ_H
#define SQZ_SQZ_H
#include <sqz/plugin.h>
#include <sqz/form.h>
#include <sqz/services.h>
#include <sqz/help.h>
#include <sqz/method.h>
#include <sqz/eval.h>
#include <sqz/search.h>
#include <sqz/format.h>
#include <sqz/hardware.h>
#include <sqz/tracker.h>
#endif
