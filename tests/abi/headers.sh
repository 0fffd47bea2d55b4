#!/bin/sh
# Every public header alone, and all of them together, in every language a plugin author may use.
#   headers.sh COMPILER INCLUDE_DIR
cc=$1
dir=$2
bad=0
for standard in c11 c17 c++17 c++20; do
    case $standard in
    c++*) language=c++ ;;
    *) language=c ;;
    esac
    for header in "$dir"/sqz/*.h; do
        name=sqz/$(basename "$header")
        # Twice: headers must guard themselves.
        if ! printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$name" "$name" |
            "$cc" -x $language -std=$standard -Wall -Wextra -pedantic -Werror -fsyntax-only \
                -I"$dir" -; then
            echo "$name does not compile as $standard"
            bad=1
        fi
    done
done
# The layout may not depend on the width that a compiler chooses for enumerations.
"$cc" -std=c17 -fshort-enums -I"$dir" -fsyntax-only "$(dirname "$0")/layout.c" || bad=1
exit $bad
