# What the container of a command runs, by /bin/sh: OUTPUT ALIVE GRACE COMMAND...
# Its output goes to the run's file and to the container's log; a signal goes on to all that it started; at its end it
# says what was used, which the API server does not know otherwise.
out=$1 alive=$2 grace=$3
shift 3
if [ "$JOB_COMPLETION_INDEX" ]; then
    export NODE_RANK="$JOB_COMPLETION_INDEX" RANK="${RANK:-$JOB_COMPLETION_INDEX}"
    if [ "$NODE_RANK" != 0 ]; then out=${out%.log}.$NODE_RANK.log; fi
fi
if [ "$alive" ]; then exec 9>"$alive"; fi # held open for as long as anything of the command lives
if ! command -v "$1" >/dev/null; then
    echo "lx: command not found: $1" >>"$out"
    echo "lx: command not found: $1" >&2
    exit 127
fi
pipe=${TMPDIR:-/tmp}/.lx-$$
tee=
if command -v tee >/dev/null && mkfifo "$pipe" 2>/dev/null; then
    trap '' TERM INT # from its first moment: a short command ends before it would see to that itself
    tee -a "$out" <"$pipe" 9>&- &
    tee=$!
    trap - TERM INT
    "$@" >"$pipe" 2>&1 &
else # a small image: its output is in the run's file only
    "$@" >>"$out" 2>&1 &
fi
child=$!
asked=
pass_on() {
    asked=1
    if [ $$ = 1 ]; then kill -TERM -1; else kill -TERM "$child"; fi
    if [ "$grace" ]; then (sleep "$grace"; kill -KILL "$child") >/dev/null 2>&1 9>&- & fi
}
trap pass_on TERM INT
wait "$child"
code=$?
while [ "$asked" ]; do # it was the trap that ended the waiting; 127: or it was not, and this is known already
    asked=
    wait "$child"
    again=$?
    if [ "$again" != 127 ]; then code=$again; fi
done
if [ $$ = 1 ]; then kill -TERM -1 2>/dev/null; fi # what it has left behind
if [ "$tee" ]; then
    rm -f "$pipe"
    (sleep 5; kill -KILL "$tee") 9>&- >/dev/null 2>&1 & # where something that is left does not end
    limit=$!
    wait "$tee"
    kill "$limit" 2>/dev/null
fi
cd /sys/fs/cgroup 2>/dev/null
peak=$(cat memory.peak 2>/dev/null || cat memory/memory.max_usage_in_bytes 2>/dev/null)
micro=$(sed -n 's/^usage_usec //p' cpu.stat 2>/dev/null)
nano=$(cat cpuacct/cpuacct.usage 2>/dev/null)
echo "lx peak_memory=$peak cpu_us=$micro cpu_ns=$nano" 2>/dev/null >/dev/termination-log
exit "$code"
