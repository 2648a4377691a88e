# What a job of Slurm runs, by bash: it says where and when it began and how it ended, and passes signals on.
# Known here: run, attempt, cwd, command, several (by srun), warning (a signal before the time limit), srun (its options).
out=$run/output.log notes=$run/slurm.$attempt.notes
id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
id=${id:-$SLURM_JOB_ID}
host=${SLURMD_NODENAME:-$HOSTNAME}
now() {
    printf -v time '%(%s)T' -1
    time=${EPOCHREALTIME:-$time} # since bash 5
    time=${time/,/.}
}
fail() { # the command is not started
    now
    echo "lx: $1" >>"$out"
    echo "ended $time 127 launch -" >>"$notes"
    exit 127
}
if ! [ -d "$run" ]; then exit 66; fi
now
echo "begun $time $id $host $SLURM_JOB_NAME/${SLURM_ARRAY_TASK_ID:-0}" >>"$notes"
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then
    echo "--- attempt $attempt, started again by Slurm ($SLURM_RESTART_COUNT) on $host ---" >>"$out"
fi
cd "$cwd" 2>/dev/null || fail "the working directory $cwd does not exist on $host"
prepare >>"$out" 2>&1
type -P -- "${command[0]}" >/dev/null || fail "command not found: ${command[0]} (on $host)"
child= asked= warned=-
pass_on() {
    asked=1
    if [ "$child" ]; then kill -s "$1" -- "$2$child" 2>/dev/null; fi
}
if [ "$several" ]; then # Slurm itself sends SIGTERM to what srun has started; srun passes on others
    trap asked=1 TERM
else
    trap 'pass_on TERM -' TERM # to all of its process group
fi
if [ "$warning" ]; then trap 'warned=$warning; pass_on "$warning"' "$warning"; fi
set -m # the command gets a process group of its own
if [ "$several" ]; then
    export MASTER_ADDR=${MASTER_ADDR:-$(uname -n)} MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
    export WORLD_SIZE=$SLURM_NTASKS SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
    rank='export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID NODE_RANK=$SLURM_NODEID
        out=$1 && shift && if [ "$RANK" != 0 ]; then out=${out%.log}.$RANK.log; fi && exec "$@" >>"$out" 2>&1'
    srun --kill-on-bad-exit=1 "${srun[@]}" /bin/sh -c "$rank" sh "$out" "${command[@]}" >>"$out" 2>&1 &
else
    (exec -- "${command[@]}") >>"$out" 2>&1 &
fi
child=$!
if [ "$asked" ] && [ -z "$several" ]; then pass_on TERM -; fi # it came before there was anybody to pass it on to
asked=
wait "$child"
code=$?
while [ "$asked" ]; do # it was the trap that ended the waiting; 127: or it was not, and this is known already
    asked=
    wait "$child"
    again=$?
    if [ "$again" != 127 ]; then code=$again; fi
done
trap '' TERM
kill -KILL -- "-$child" 2>/dev/null # what it has left behind
peak=-
while IFS=: read -r _ controllers path; do # of its control group, where Slurm makes one
    case $controllers:$path in
    memory:*/job_*) file=/sys/fs/cgroup/memory$path/memory.max_usage_in_bytes ;;
    :*/job_*) file=/sys/fs/cgroup$path/memory.peak ;;
    *) continue ;;
    esac
    if [ -r "$file" ]; then read -r peak <"$file"; fi
done </proc/self/cgroup
now
{
    times
    echo "ended $time $code $warned $peak"
} >>"$notes"
exit "$code"
