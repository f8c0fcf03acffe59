# The line rules of tools/lint.sh, for C sources: who may include whom, and what nobody may call.
# Comments and the insides of strings are blanked first, so that words in them don't count.
# -v sockets=…, store=…, spawners=…, cores=…, parsers=…: the files (as regular expressions) that may.

function complain(what) { printf "%s:%d: %s\n", FILENAME, FNR, what }

# The line without comments; string and character literals become "" and ' '.
function code_of(line,    out, i, c, two, quote) {
    out = ""
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        two = substr(line, i, 2)
        if (in_comment) {
            if (two == "*/") { in_comment = 0; i++ }
        } else if (quote != "") {
            if (c == "\\") i++
            else if (c == quote) { out = out c; quote = "" }
        } else if (two == "/*") { in_comment = 1; i++ }
        else if (two == "//") break
        else if (c == "\"" || c == "'") { quote = c; out = out c }
        else out = out c
    }
    return out
}

function calls(name) { return code ~ ("(^|[^A-Za-z0-9_.>])(" name ")[ \t]*\\(") }

BEGIN {
    rank["common"] = 0; rank["proto"] = 1; rank["tarmac"] = 2
    rank["ventilator"] = rank["worker"] = rank["sink"] = 3
    numbers = "atoi|atol|atoll|atof|strtol|strtoul|strtoll|strtoull|strtod|strtof|strtold|strtoimax|strtoumax|sscanf"
    copies = "sprintf|vsprintf|strcpy|strcat|strncpy|strncat|stpcpy|gets|strtok"
    spawns = "fork|vfork|clone|clone3|posix_spawn|posix_spawnp|popen|system"
    waits = "sleep|usleep|nanosleep|clock_nanosleep"
    clocks = "mono_now|wall_now|clock_gettime|gettimeofday|time|rand|random|getrandom|arc4random|getenv|open|socket|write|read"
}

FNR == 1 {
    in_comment = 0
    folder = FILENAME; sub(/\/.*/, "", folder)
    product = folder in rank
    core = FILENAME ~ cores
}

{
    raw = $0
    if (raw ~ /[ \t]$/) complain("blank at the end of the line; take it away")
    if (raw ~ /\t/) complain("tab; indent by four spaces")
    was_comment = in_comment
    code = code_of(raw)
}

!was_comment && raw ~ /^[ \t]*#[ \t]*include/ {
    header = raw
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", header)
    sub(/[ \t]*(\/\*.*|\/\/.*)?$/, "", header)
    local = header ~ /^"/
    gsub(/[<>"]/, "", header)

    if (local && header !~ /\// && header !~ /\.pb-c\.h$/)
        complain("\"" header "\" has no folder; include by path from the top: \"" folder "/" header "\"")
    target = header; sub(/\/.*/, "", target)
    if (local && product && (target in rank) && target != folder && rank[target] >= rank[folder])
        complain(folder "/ includes " target "/; allowed is common <- proto <- tarmac <- ventilator | worker | sink, and the three never each other")
    if (local && product && target == "tests")
        complain("a program includes tests/; move what both need into common/")
    if (product && header ~ /^(zmq|czmq|zsock|zframe|zmsg|zcert)[a-z_]*\.h$/ && FILENAME !~ sockets)
        complain(header " belongs to one file; use common/net.h")
    if (product && header ~ /^sqlite3[a-z]*\.h$/ && FILENAME !~ store)
        complain(header " belongs to one file; use common/store.h")
    if (header ~ /\.pb-c\.h$/ && FILENAME !~ /^proto\/(wire|handler)\.h$/)
        complain("generated protobuf is seen through proto/wire.h and proto/handler.h only; include those")
    if (core && header ~ /^common\/(net|store|loop|log)\.h$/)
        complain(header " in a pure core; messages and time come in, effects go out: leave it to the shell")
    if (core && header ~ /^(sys\/(socket|epoll|stat|types|wait|time).*|unistd|pthread|time|fcntl|signal|threads|stdatomic)(\.h)?$/)
        complain("<" header "> in a pure core; it has no clock, descriptors or threads: leave it to the shell")
    next
}

product && calls(numbers) && FILENAME !~ parsers {
    complain("number parser; use parse_u64, parse_i64, parse_size or parse_duration of common/options.h")
}
calls(copies) { complain("copies without a bound; use snprintf, memcpy with a checked length, or strlcpy of libbsd") }
product && calls(spawns) && FILENAME !~ spawners { complain("starts a process; only the spawning file does (see spawners in tools/lint.sh)") }
core && calls(clocks) { complain("a clock, chance or descriptor in a pure core; take it as an argument") }
!product && calls(waits) { complain("a test that sleeps; wait for the event with a bound, or use the simulation's time") }
!product && raw ~ /(listen|bind|LISTEN|BIND)[^;]*tcp:\/\/[^":]*:[1-9]/ { complain("fixed port in a test; use port 0 or ipc in a folder of its own") }
!product && code ~ /htons\([ \t]*[1-9]/ { complain("fixed port in a test; bind port 0 and ask for the name") }
