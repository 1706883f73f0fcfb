"""Docker's default seccomp profile as a classic BPF program, made with struct.pack alone.

The profile is that of Docker Engine 29 (github.com/moby/profiles, seccomp/default.json), for the kernels that this
program runs on (>= 5.11, so its `minKernel` rules always hold). What is not allowed fails with EPERM. Two lines differ
on purpose:

- A system call newer than every one that the profile names fails with ENOSYS: runc does the same in front of the
  profile, since a libc falls back to the older call for ENOSYS only.
- The kernel reads the address family of socket(2) as 32 bits, and so does this filter; libseccomp compares 64, which
  lets ``1 << 32 | AF_ALG`` through.

What it does not do: socketcall(2) of 32-bit x86 and arm programs is allowed, as with Docker, and its arguments lie behind a
pointer that no filter can follow.
"""

from __future__ import annotations

import struct

# The profile's unconditional names, whatever the architecture; a name that an architecture lacks means nothing there.
# ptrace, process_vm_readv and process_vm_writev are here for kernels >= 4.8; EXTRA is what Docker adds for one machine.
_ALWAYS = """
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl
    epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group
    faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
    timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
    vmsplice wait4 waitid waitpid write writev
"""

_EXTRA = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
}

_WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr"
    " lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd"
    " setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# System call numbers, from the kernel's arch/*/syscall*.tbl: a number sets the counter, a name takes it and adds one.
# Only what the profile names is here.

# Equal on every architecture (the kernel unified them from 424 on).
_COMMON = """
    424 pidfd_send_signal 428 open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2
    pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule
    landlock_restrict_self 448 process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack
    futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal
    setxattrat getxattrat listxattrat removexattrat
"""

_X86_64 = """
    read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn ioctl
    pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise shmget shmat shmctl dup dup2
    pause nanosleep getitimer alarm setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown
    bind listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit wait4 kill uname semget
    semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir
    rename mkdir rmdir creat link unlink symlink readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit
    getrusage sysinfo times ptrace getuid syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid
    setregid getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod 135 personality 137 statfs fstatfs 140
    getpriority setpriority sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max
    sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt 157 prctl arch_prctl
    adjtimex setrlimit chroot sync acct settimeofday mount umount2 169 reboot sethostname setdomainname iopl ioperm 175
    init_module delete_module 179 quotactl 186 gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
    listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity
    set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area lookup_dcookie epoll_create
    epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create
    timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres clock_nanosleep
    exit_group epoll_wait epoll_ctl tgkill utimes 237 mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend
    mq_timedreceive mq_notify mq_getsetattr 247 waitid 251 ioprio_set ioprio_get inotify_init inotify_add_watch
    inotify_rm_watch 257 openat mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat
    fchmodat faccessat pselect6 ppoll unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice 280
    utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2
    epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init
    fanotify_mark prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv
    process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create 321 bpf execveat
    324 membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq
    uretprobe 447 memfd_secret
"""

# x32 has the numbers of x86_64 plus the bit 0x40000000, but for these.
_X32 = """
    512 rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending rt_sigtimedwait
    rt_sigqueueinfo sigaltstack timer_create mq_notify 529 waitid set_robust_list get_robust_list vmsplice 534 preadv pwritev
    rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit execveat
    preadv2 pwritev2
"""
_NOT_X32 = ("epoll_ctl_old", "epoll_wait_old", "get_thread_area", "set_thread_area")

_X86 = """
    restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time mknod chmod lchown 19 lseek
    getpid mount umount setuid getuid stime ptrace alarm 29 pause utime 33 access 36 sync kill rename mkdir rmdir dup pipe
    times 45 brk setgid getgid 49 geteuid getegid acct umount2 54 ioctl fcntl 57 setpgid 60 umask chroot 63 dup2 getppid
    getpgrp setsid 70 setreuid setregid 74 sethostname setrlimit getrlimit getrusage gettimeofday settimeofday getgroups
    setgroups select symlink 85 readlink 88 reboot 90 mmap munmap truncate ftruncate fchmod fchown getpriority setpriority 99
    statfs fstatfs ioperm socketcall syslog setitimer getitimer stat lstat fstat 110 iopl vhangup 114 wait4 116 sysinfo ipc
    fsync sigreturn clone setdomainname uname modify_ldt adjtimex mprotect sigprocmask 128 init_module delete_module 131
    quotactl getpgid fchdir 136 personality 138 setfsuid setfsgid _llseek getdents _newselect flock msync readv writev getsid
    fdatasync 150 mlock munlock mlockall munlockall sched_setparam sched_getparam sched_setscheduler sched_getscheduler
    sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval nanosleep mremap setresuid getresuid 168
    poll 170 setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo
    rt_sigsuspend pread64 pwrite64 chown getcwd capget capset sigaltstack sendfile 190 vfork ugetrlimit mmap2 truncate64
    ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 setreuid32 setregid32 getgroups32
    setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32 218
    mincore madvise getdents64 fcntl64 224 gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
    listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity
    sched_getaffinity set_thread_area get_thread_area io_setup io_destroy io_getevents io_submit io_cancel fadvise64 252
    exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait remap_file_pages set_tid_address timer_create timer_settime
    timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64
    tgkill utimes fadvise64_64 274 mbind get_mempolicy set_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
    mq_getsetattr 284 waitid 289 ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch 295 openat mkdirat
    mknodat fchownat futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll
    unshare set_robust_list get_robust_list splice sync_file_range tee vmsplice 318 getcpu epoll_pwait utimensat signalfd
    timerfd_create eventfd fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1
    preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at
    open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv process_vm_writev kcmp finit_module sched_setattr
    sched_getattr renameat2 seccomp getrandom memfd_create bpf execveat socket socketpair bind connect listen accept4
    getsockopt setsockopt getsockname getpeername sendto sendmsg recvfrom recvmsg shutdown 375 membarrier mlock2
    copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx arch_prctl io_pgetevents rseq 393 semget semctl
    shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64
    clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64
    pselect6_time64 ppoll_time64 416 io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64
    semtimedop_time64 rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64 447 memfd_secret
"""

_AARCH64 = """
    io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr
    llistxattr flistxattr removexattr lremovexattr fremovexattr getcwd lookup_dcookie eventfd2 epoll_create1 epoll_ctl
    epoll_pwait dup dup3 fcntl inotify_init1 inotify_add_watch inotify_rm_watch ioctl ioprio_set ioprio_get flock mknodat
    mkdirat unlinkat symlinkat linkat renameat umount2 mount 43 statfs fstatfs truncate ftruncate fallocate faccessat chdir
    fchdir chroot fchmod fchmodat fchownat fchown openat close vhangup pipe2 quotactl getdents64 lseek read write readv writev
    pread64 pwrite64 preadv pwritev sendfile pselect6 ppoll signalfd4 vmsplice splice tee readlinkat newfstatat fstat sync
    fsync fdatasync sync_file_range timerfd_create timerfd_settime timerfd_gettime utimensat acct capget capset personality
    exit exit_group waitid set_tid_address unshare futex set_robust_list get_robust_list nanosleep getitimer setitimer 105
    init_module delete_module timer_create timer_gettime timer_getoverrun timer_settime timer_delete clock_settime
    clock_gettime clock_getres clock_nanosleep syslog ptrace sched_setparam sched_setscheduler sched_getscheduler
    sched_getparam sched_setaffinity sched_getaffinity sched_yield sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend rt_sigaction rt_sigprocmask
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigreturn setpriority getpriority reboot setregid setgid setreuid setuid
    setresuid getresuid setresgid getresgid setfsuid setfsgid times setpgid getpgid getsid setsid getgroups setgroups uname
    sethostname setdomainname getrlimit setrlimit getrusage umask prctl getcpu gettimeofday settimeofday adjtimex getpid
    getppid getuid geteuid getgid getegid gettid sysinfo mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
    mq_getsetattr msgget msgctl msgrcv msgsnd semget semctl semtimedop semop shmget shmctl shmat shmdt socket socketpair bind
    listen accept connect getsockname getpeername sendto recvfrom setsockopt getsockopt shutdown sendmsg recvmsg readahead brk
    munmap mremap 220 clone execve mmap fadvise64 226 mprotect msync mlock munlock mlockall munlockall mincore madvise
    remap_file_pages mbind get_mempolicy set_mempolicy 240 rt_tgsigqueueinfo perf_event_open accept4 recvmmsg 260 wait4
    prlimit64 fanotify_init fanotify_mark name_to_handle_at open_by_handle_at clock_adjtime syncfs setns sendmmsg
    process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create
    bpf execveat 283 membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents
    rseq 447 memfd_secret
"""

_ARM = """
    restart_syscall exit fork read write open close 8 creat link unlink execve chdir 14 mknod chmod lchown 19 lseek getpid
    mount 23 setuid getuid 26 ptrace 29 pause 33 access 36 sync kill rename mkdir rmdir dup pipe times 45 brk setgid getgid 49
    geteuid getegid acct umount2 54 ioctl fcntl 57 setpgid 60 umask chroot 63 dup2 getppid getpgrp setsid 70 setreuid setregid
    74 sethostname setrlimit 77 getrusage gettimeofday settimeofday getgroups setgroups 83 symlink 85 readlink 88 reboot 91
    munmap truncate ftruncate fchmod fchown getpriority setpriority 99 statfs fstatfs 103 syslog setitimer getitimer stat
    lstat fstat 111 vhangup 114 wait4 116 sysinfo 118 fsync sigreturn clone setdomainname uname 124 adjtimex mprotect
    sigprocmask 128 init_module delete_module 131 quotactl getpgid fchdir 136 personality 138 setfsuid setfsgid _llseek
    getdents _newselect flock msync readv writev getsid fdatasync 150 mlock munlock mlockall munlockall sched_setparam
    sched_getparam sched_setscheduler sched_getscheduler sched_yield sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval nanosleep mremap setresuid getresuid 168 poll 170 setresgid getresgid prctl rt_sigreturn
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd
    capget capset sigaltstack sendfile 190 vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32
    getuid32 getgid32 geteuid32 getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32
    setresgid32 getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32 getdents64 219 mincore madvise fcntl64 224 gettid
    readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr
    lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity sched_getaffinity io_setup io_destroy io_getevents
    io_submit io_cancel exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait remap_file_pages 256 set_tid_address
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime clock_getres
    clock_nanosleep statfs64 fstatfs64 tgkill utimes arm_fadvise64_64 274 mq_open mq_unlink mq_timedsend mq_timedreceive
    mq_notify mq_getsetattr waitid socket bind connect listen accept getsockname getpeername socketpair send sendto recv
    recvfrom shutdown setsockopt getsockopt sendmsg recvmsg semop semget semctl msgsnd msgrcv msgget msgctl shmat shmdt shmget
    shmctl 312 semtimedop 314 ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch mbind get_mempolicy
    set_mempolicy openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat
    faccessat pselect6 ppoll unshare set_robust_list get_robust_list splice arm_sync_file_range 341 sync_file_range2 tee
    vmsplice 345 getcpu epoll_pwait 348 utimensat signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime
    signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg
    accept4 fanotify_init fanotify_mark prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns
    process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create
    bpf execveat 389 membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx rseq
    io_pgetevents 403 clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64
    timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 416
    io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 rt_sigtimedwait_time64
    futex_time64 sched_rr_get_interval_time64 983041 breakpoint cacheflush 983045 set_tls
"""

# linux/audit.h: the machine's ELF number, with flags for 64 bits and little endian.
_AUDIT_X86_64 = 0xC000003E
_AUDIT_X86 = 0x40000003
_AUDIT_AARCH64 = 0xC00000B7
_AUDIT_ARM = 0x40000028

_X32_BIT = 0x40000000
# Numbers from here on are private calls of the arm kernel (cacheflush and such), not newer system calls.
_ARM_PRIVATE = 0xF0000

# linux/bpf_common.h: load a word, jump, return.
_LOAD = 0x20
_JUMP = 0x05
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06

# linux/seccomp.h: what to return, and offsets in struct seccomp_data.
_NUMBER = 0
_ARCHITECTURE = 4
_ARGUMENT_0 = 16
_ARGUMENT_0_HIGH = 20

_KILL_THREAD = 0x00000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000
_EPERM = 1
_ENOSYS = 38

_AF_PACKET = 17
_AF_ALG = 38
_AF_VSOCK = 40
# CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET.
_CLONE_NAMESPACES = 0x7E020000
# PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, and "tell me the present one".
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_Code = list[tuple[int, int, int, int]]
"""Instructions as (code, jump if true, jump if false, operand); jumps are relative, so pieces can be put together."""


def _statement(code: int, operand: int) -> tuple[int, int, int, int]:
    return code, 0, 0, operand


_PERMIT: _Code = [_statement(_RETURN, _ALLOW)]
_REFUSE: _Code = [_statement(_RETURN, _ERRNO | _EPERM)]
_UNKNOWN: _Code = [_statement(_RETURN, _ERRNO | _ENOSYS)]

_SOCKET: _Code = [
    _statement(_LOAD, _ARGUMENT_0),
    (_JUMP_EQUAL, 1, 0, _AF_ALG),
    (_JUMP_EQUAL, 0, 1, _AF_VSOCK),
    *_REFUSE,
    *_PERMIT,
]
_SOCKET_BUT_PACKET: _Code = [
    _statement(_LOAD, _ARGUMENT_0),
    (_JUMP_EQUAL, 2, 0, _AF_PACKET),
    (_JUMP_EQUAL, 1, 0, _AF_ALG),
    (_JUMP_EQUAL, 0, 1, _AF_VSOCK),
    *_REFUSE,
    *_PERMIT,
]
_CLONE: _Code = [
    _statement(_LOAD, _ARGUMENT_0),
    (_JUMP_ANY_BIT, 0, 1, _CLONE_NAMESPACES),
    *_REFUSE,
    *_PERMIT,
]
_PERSONALITY: _Code = [
    _statement(_LOAD, _ARGUMENT_0_HIGH),
    (_JUMP_EQUAL, 0, len(_PERSONALITIES) + 1, 0),
    _statement(_LOAD, _ARGUMENT_0),
    *((_JUMP_EQUAL, len(_PERSONALITIES) - n, 0, value) for n, value in enumerate(_PERSONALITIES)),
    *_REFUSE,
    *_PERMIT,
]

_made: dict[tuple[tuple[str, ...], str, bool], bytes] = {}


def docker_profile(capabilities: tuple[str, ...], machine: str, *, packet_sockets: bool = True) -> bytes:
    """The program for seccomp(2), 8 bytes an instruction (struct sock_filter), for a process with `capabilities`.

    `machine` is as uname(2) gives it: ``x86_64`` (with 32-bit x86 and x32 programs) or ``aarch64`` (with arm). Another
    one raises ValueError. A program of another architecture is killed (SECCOMP_RET_KILL_THREAD, libseccomp's default).
    Without `packet_sockets` nobody gets to see what other programs send and get (packet(7)); Docker's profile has them.
    """
    key = (tuple(sorted(set(capabilities))), machine, packet_sockets)
    program = _made.get(key)
    if program is None:
        program = _made[key] = _compile(key[0], machine, _SOCKET if packet_sockets else _SOCKET_BUT_PACKET)
    return program


def native_numbers(machine: str) -> dict[str, int]:
    """The machine's own system calls that the profile knows, by name; KeyError for another machine than those two."""
    return _numbers({"x86_64": _X86_64, "aarch64": _AARCH64}[machine] + _COMMON)


def _compile(capabilities: tuple[str, ...], machine: str, socket: _Code) -> bytes:
    if machine not in _EXTRA:
        raise ValueError(f"no seccomp profile for the machine '{machine}', only for {' and '.join(sorted(_EXTRA))}")
    rules = _rules(capabilities, machine) | {"socket": socket}
    if machine == "x86_64":
        x86_64 = native_numbers(machine)
        x32 = {name: _X32_BIT + number for name, number in (x86_64 | _numbers(_X32)).items() if name not in _NOT_X32}
        # A number without the x32 bit never reaches the right half, nor the other way round.
        native = _split(_X32_BIT, _search(_segments(rules, x86_64, 0)), _search(_segments(rules, x32, _X32_BIT)))
        architectures = ((_AUDIT_X86_64, native), (_AUDIT_X86, _search(_segments(rules, _numbers(_X86 + _COMMON), 0))))
    else:
        arm = _search(_segments(rules, _numbers(_ARM + _COMMON), 0))
        architectures = ((_AUDIT_AARCH64, _search(_segments(rules, native_numbers(machine), 0))), (_AUDIT_ARM, arm))
    code: _Code = [_statement(_LOAD, _ARCHITECTURE)]
    for audit, search in architectures:
        # Conditional jumps reach 255 instructions; an unconditional one reaches them all.
        code += [(_JUMP_EQUAL, 1, 0, audit), _statement(_JUMP, len(search) + 1), _statement(_LOAD, _NUMBER), *search]
    code.append(_statement(_RETURN, _KILL_THREAD))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _rules(capabilities: tuple[str, ...], machine: str) -> dict[str, _Code]:
    """What to do by name; a name that is not here is refused."""
    rules = {
        "socket": _SOCKET,
        "personality": _PERSONALITY,
        "clone": _CLONE,
        "clone3": _UNKNOWN,  # Its flags lie behind a pointer; libc then takes clone(2), whose flags are seen.
    }
    names = [_ALWAYS, _EXTRA[machine], *(_WITH_CAPABILITY.get(capability, "") for capability in capabilities)]
    rules.update((name, _PERMIT) for name in " ".join(names).split())
    return rules


def _numbers(table: str) -> dict[str, int]:
    numbers = {}
    number = 0
    for token in table.split():
        if token.isdecimal():
            number = int(token)
        else:
            numbers[token] = number
            number += 1
    return numbers


def _segments(rules: dict[str, _Code], numbers: dict[str, int], start: int) -> list[tuple[int, _Code]]:
    """The system calls from `start` on as runs of one rule: (first number, rule), ascending."""
    by_number = {number: rules.get(name, _REFUSE) for name, number in numbers.items()}
    newest = max(number for number in by_number if number - start < _ARM_PRIVATE)
    by_number.setdefault(start, _REFUSE)
    for number in sorted(by_number):
        by_number.setdefault(number + 1, _REFUSE)
    by_number[newest + 1] = _UNKNOWN
    # On x86 there is nothing up there, and refusing it is as good as anything.
    by_number.setdefault(start + _ARM_PRIVATE, _REFUSE)
    segments: list[tuple[int, _Code]] = []
    for number, rule in sorted(by_number.items()):
        if not segments or segments[-1][1] is not rule:
            segments.append((number, rule))
    return segments


def _search(segments: list[tuple[int, _Code]]) -> _Code:
    """A binary search for the segment that the loaded number lies in."""
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    return _split(segments[middle][0], _search(segments[:middle]), _search(segments[middle:]))


def _split(number: int, below: _Code, above: _Code) -> _Code:
    if len(below) <= 255:
        return [(_JUMP_AT_LEAST, len(below), 0, number), *below, *above]
    return [(_JUMP_AT_LEAST, 0, 1, number), _statement(_JUMP, len(below)), *below, *above]
