#!/bin/sh
# test.sh PLUGIN.so - the plugin is fit, and sqz finds it by its id.  SQZ = the program to use.
set -eu
sqz=${SQZ:-sqz}
file=${1:-./@name@.so}
"$sqz" plugin check "$file"
"$sqz" plugin info @id@ --plugin-path "$file" >/dev/null
echo "@name@: ok"
