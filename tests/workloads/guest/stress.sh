# stress.sh GROUP WORKERS: stress-ng's own verification, a fixed number of operations each. Prints what failed and how each part ended.
set -u
group=$1 workers=$2
part() { # NAME OPTION...: with WORKERS workers
  name=$1
  shift
  timeout -k 5 300 stress-ng --"$name" "$workers" --verify --no-rand-seed "$@" >log 2>&1
  echo "$name $* $?"
  sed -nE 's/^stress-ng: (fail|error|fatal): *\[[0-9]+\]/\1/p' log
}
methods() { stress-ng --"$1" 1 --"$1"-method which 2>&1 | sed 's/.*: //; s/\ball\b//'; }
each() { # NAME OPS OPTION...: every method by itself
  stressor=$1 ops=$2
  shift 2
  for method in $(methods "$stressor"); do part "$stressor" --"$stressor"-method "$method" --"$stressor"-ops "$ops" "$@"; done
}
case $group in
  cpu) each cpu "$workers" ;;
  float)
    part fp --fp-ops 50  # with one method it never ends
    each vecfp "$workers"
    each funccall "$workers"
    part vecmath --vecmath-ops 2
    part vecwide --vecwide-ops 2
    part vecshuf --vecshuf-ops 2
    part fp-error --fp-error-ops 20
    ;;
  memory)
    part vm --vm-method all --vm-ops 3000 --vm-bytes 2m  # with some methods alone it never ends
    part memcpy --memcpy-ops 4
    part memthrash --memthrash-ops 4
    part stream --stream-ops 2 --stream-l3-size 256k
    part mmap --mmap-bytes 1m --mmap-ops 4
    part mremap --mremap-bytes 1m --mremap-ops 4
    part malloc --malloc-bytes 1m --malloc-ops 1000
    part shm --shm-bytes 1m --shm-ops 4
    part remap --remap-ops 2
    part vm-splice --vm-splice-ops 50
    part stackmmap --stackmmap-ops 1
    part tlb-shootdown --tlb-shootdown-ops 5
    part fault --fault-ops 20
    ;;
  integer)
    each matrix 20 --matrix-size 24
    each matrix-3d 4 --matrix-3d-size 16
    each hash 2
    part crypt --crypt-ops 12
    each qsort 2 --qsort-size 2048
    for name in heapsort mergesort radixsort shellsort bsearch hsearch lsearch tsearch tree; do
      part $name --$name-ops 2 --$name-size 1024
    done
    part regs --regs-ops 4
    part longjmp --longjmp-ops 2000
    part goto --goto-ops 10
    part branch --branch-ops 1000
    part nop --nop-ops 100
    part sparsematrix --sparsematrix-ops 2 --sparsematrix-items 500 --sparsematrix-size 50
    part zlib --zlib-ops 2 --zlib-method text
    ;;
  text)
    each str 20
    each wcs 20
    ;;
  process)
    part atomic --atomic-ops 20
    part fork --fork-ops 40
    part vfork --vfork-ops 40
    part pthread --pthread-ops 20
    part clone --clone-ops 20
    part futex --futex-ops 200
    part mutex --mutex-ops 200
    part sem-sysv --sem-sysv-ops 500
    part context --context-ops 20
    part switch --switch-ops 500
    part signal --signal-ops 500
    part sigsegv --sigsegv-ops 200
    part sigfpe --sigfpe-ops 200
    part sigtrap --sigtrap-ops 200
    part sigabrt --sigabrt-ops 10
    part signest --signest-ops 20
    part sigq --sigq-ops 100
    part sigrt --sigrt-ops 50
    part sigpipe --sigpipe-ops 50
    part bad-altstack --bad-altstack-ops 20
    part timer --timer-ops 100
    part timerfd --timerfd-ops 100
    part itimer --itimer-ops 50
    part nanosleep --nanosleep-ops 10
    part pipe --pipe-ops 1000
    part msg --msg-ops 500
    part eventfd --eventfd-ops 500
    part epoll --epoll-ops 50
    part sock --sock-ops 20
    part sockpair --sockpair-ops 50
    part membarrier --membarrier-ops 20
    part peterson --peterson-ops 200
    part dekker --dekker-ops 200
    part vdso --vdso-ops 2000
    part ptrace --ptrace-ops 200
    ;;
esac
