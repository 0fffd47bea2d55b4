#!/bin/bash
# Who may include whom, and who may name whom.
#   boundaries.sh COMPILER SOURCE_DIR
# 1. plugins/ sees of sqz only sdk/include: every #include is <sqz/...>, a file of the plugin's own
#    folder, or a header that no folder of ours has.
# 2. core/, registry/ and sdk/ name no plugin: neither its id nor, as a whole string, its short name.
#    Comments and the examples in help texts of core/cli may.
cc=$1
root=$2
bad=0

# ---- 1. includes of plugins (their tests are tests and see everything)
while IFS=: read -r file line text; do
    name=$(printf '%s\n' "$text" | sed -n 's/.*#[ \t]*include[ \t]*[<"]\([^>"]*\)[>"].*/\1/p')
    [ -n "$name" ] || continue
    folder=$(dirname "$file")
    case $text in
    *\"*)
        if [ ! -f "$folder/$name" ] || [[ $name == */* ]]; then
            echo "$file:$line: includes \"$name\", which is not in its own folder"
            bad=1
        fi
        ;;
    *\<sqz/*)
        if [ ! -f "$root/sdk/include/$name" ]; then
            echo "$file:$line: includes <$name>, which sdk/include has not"
            bad=1
        fi
        ;;
    *)
        for ours in sdk/runtime registry core tests; do
            if [ -f "$root/$ours/$name" ]; then
                echo "$file:$line: includes <$name> of $ours; plugins may use sdk/include only"
                bad=1
            fi
        done
        ;;
    esac
done < <(grep -rnE '#[ 	]*include' "$root/plugins" --include='*.[ch]' | grep -v '/test_[^/]*\.c:')

# ---- 2. names of plugins
ids=$(grep -rhoE '"org\.[a-z0-9_-]+(\.[a-z0-9_-]+)+"' "$root/plugins" --include='*.c' | tr -d '"' | sort -u)
if [ -z "$ids" ]; then
    echo "found no plugin ids in $root/plugins"
    exit 1
fi
# Words (metrics, kinds of tasks, fields of rows, parts of a machine) that plugins happen to share; their ids still count.
shared='^(perplexity|exact_match|continuation|cpu|multiple_choice|needle|long_perplexity|jsonl)$'
dotted=$(sed 's/\./\\./g' <<<"$ids" | paste -sd'|')
shorts=$(sed 's/.*\.//' <<<"$ids" | grep -vE "$shared" | sort -u | paste -sd'|')
while read -r file; do
    case $file in
    "$root"/core/cli/*) pattern="\"($dotted|$shorts)\"" ;;
    *) pattern="$dotted|\"($shorts)\"" ;;
    esac
    # The compiler, asked only to take comments away.
    found=$("$cc" -fpreprocessed -dD -E -P "$file" 2>/dev/null | grep -nE "$pattern")
    if [ -n "$found" ]; then
        echo "${file#"$root"/}: names a plugin: $(head -1 <<<"$found")"
        bad=1
    fi
done < <(find "$root/core" "$root/registry" "$root/sdk/runtime" "$root/sdk/include" -name '*.[ch]' | sort)
exit $bad
