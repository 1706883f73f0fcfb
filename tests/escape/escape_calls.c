/* Ways out of a sandbox, tried one after the other from inside: each line says its name, what it tries and what it got,
   an errno or a few words; "OUT" where it worked. All are harmless where they work, for they do, in the control.

   Arguments: a file of the host, an abstract socket of the host, the key of shared memory of the host, a pid of the host. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define OUT "OUT"
static const char *canary, *abstract;
static int key, host_pid;

static const char *code(int error) {
    const char *name = strerrorname_np(error);
    return name ? name : "an unknown error";
}

/* Of a call that returns -1 where it is refused. */
static const char *got(long result) { return result < 0 ? code(errno) : OUT; }

/* The same where the call was given what it cannot take, so that it does nothing: any other error is one of the call itself. */
static const char *reached(long result) {
    return result < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES) ? code(errno) : OUT;
}

static const char *writable(const char *path) { return got(open(path, O_WRONLY | O_CLOEXEC)); }

static const char *readable(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return code(errno);
    long size = read(fd, &byte, 1);
    return size < 0 ? code(errno) : size ? OUT : "empty";
}

static const char *filled(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return code(errno);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') return OUT;
    return "empty";
}

static const char *says(const char *path, const char *text) {
    static char data[1 << 20];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return code(errno);
    size_t size = 0;
    for (long more; size < sizeof data && (more = read(fd, data + size, sizeof data - size)) > 0;) size += more;
    return memmem(data, size, text, strlen(text)) ? OUT : "not there";
}

/* The canary's folder, which lies in the tests' own. */
static const char *canary_folder(void) {
    static char folder[4096];
    snprintf(folder, sizeof folder, "%s", canary);
    *strrchr(folder, '/') = 0;
    return folder;
}

static const char *below(const char *place) {
    static char path[8192];
    snprintf(path, sizeof path, "%s%s", place, canary);
    return readable(path);
}

/* Mounts, in a namespace that nobody else is in. */
static const char *mount_tmpfs(void) { return got(mount("x", "/mnt", "tmpfs", 0, NULL)); }
static const char *mount_proc(void) { return got(mount("x", "/mnt", "proc", 0, NULL)); }
static const char *mount_cgroup(void) { return got(mount("x", "/mnt", "cgroup2", 0, NULL)); }
static const char *mount_bind(void) { return got(mount("/etc", "/mnt", NULL, MS_BIND, NULL)); }
static const char *mount_remount(void) { return got(mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND, NULL)); }
static const char *mount_overlay(void) { return got(mount("x", "/mnt", "overlay", 0, "lowerdir=/etc:/bin")); }
static const char *mount_propagation(void) { return got(mount(NULL, "/", NULL, MS_SHARED, NULL)); }
static const char *mount_umount(void) { return got(umount2("/proc/sys", MNT_DETACH)); }
static const char *mount_fsopen(void) { return got(syscall(SYS_fsopen, "tmpfs", 0)); }
static const char *mount_open_tree(void) { return got(syscall(SYS_open_tree, AT_FDCWD, "/etc", 1)); }
static const char *mount_move(void) { return reached(syscall(SYS_move_mount, -1, "", -1, "", 0)); }
static const char *mount_setattr_(void) {
    uint64_t attributes[4] = {0, 1, 0, 0};
    return got(syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, attributes, sizeof attributes));
}
static const char *mount_pivot(void) { return reached(syscall(SYS_pivot_root, "/none", "/none")); }

/* Namespaces. */
static const char *ns_user(void) { return got(unshare(CLONE_NEWUSER)); }
static const char *ns_mount(void) { return got(unshare(CLONE_NEWNS)); }
static const char *ns_net(void) { return got(unshare(CLONE_NEWNET)); }
static const char *ns_clone(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return got(pid);
}
static const char *ns_clone3(void) {
    uint64_t arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    return got(pid);
}
static const char *ns_setns(void) {
    int fd = open("/proc/1/ns/uts", O_RDONLY);
    return fd < 0 ? code(errno) : got(setns(fd, CLONE_NEWUTS));
}
static const char *ns_uid_map(void) {
    int fd = open("/proc/self/uid_map", O_WRONLY);
    return fd < 0 ? code(errno) : got(write(fd, "0 0 4294967295", 14));
}

/* The kernel itself. */
static const char *kernel_keyctl(void) { return got(syscall(SYS_keyctl, 0, -3, 0)); }
static const char *kernel_add_key(void) { return got(syscall(SYS_add_key, "user", "x", "x", 1, -3)); }
static const char *kernel_request_key(void) { return reached(syscall(SYS_request_key, "user", "none", NULL, -3)); }
static const char *kernel_bpf(void) {
    uint32_t map[32] = {2, 4, 4, 1};
    return got(syscall(SYS_bpf, 0, map, sizeof map));
}
static const char *kernel_perf(void) {
    uint32_t attributes[32] = {1, sizeof attributes};
    return got(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
}
static const char *kernel_userfaultfd(void) { return got(syscall(SYS_userfaultfd, 0)); }
static const char *kernel_io_uring(void) { return reached(syscall(SYS_io_uring_setup, 1, NULL)); }
static const char *kernel_kexec(void) { return reached(syscall(SYS_kexec_load, 0, 99, NULL, 1 << 30)); }
static const char *kernel_init_module(void) { return reached(syscall(SYS_init_module, NULL, 0, "")); }
static const char *kernel_finit_module(void) { return reached(syscall(SYS_finit_module, -1, "", 0)); }
static const char *kernel_delete_module(void) { return reached(syscall(SYS_delete_module, "pybuild_none", O_NONBLOCK)); }
static const char *kernel_reboot(void) { return reached(syscall(SYS_reboot, 0, 0, 0, NULL)); }
static const char *kernel_swapon(void) { return reached(syscall(SYS_swapon, "/none", 0)); }
static const char *kernel_acct(void) { return reached(syscall(SYS_acct, "/none")); }
static const char *kernel_clock(void) {
    struct timespec time = {0, -1};
    return reached(syscall(SYS_clock_settime, CLOCK_REALTIME, &time)); /* Not by libc, which looks at the time first. */
}
static const char *kernel_hostname(void) { return got(sethostname("pybuild", 7)); }
static const char *kernel_dmesg(void) { return reached(syscall(SYS_syslog, 10, NULL, 0)); }
static const char *kernel_fanotify(void) { return got(syscall(SYS_fanotify_init, 4, 0)); }
static const char *kernel_quota(void) { return reached(syscall(SYS_quotactl, 0x80000100, "/none", 0, NULL)); }
static const char *kernel_personality(void) { return got(syscall(SYS_personality, 0x0040000)); }
static const char *kernel_iopl(void) {
#ifdef __x86_64__
    return got(syscall(SYS_iopl, 3));
#else
    return "EPERM"; /* There is none. */
#endif
}
static const char *kernel_int80(void) {
#ifdef __x86_64__
    /* mount(2) by the number and the door of 32-bit programs. */
    int result;
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    strcpy(low, "tmpfs");
    strcpy(low + 16, "/mnt");
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(21), "b"(low), "c"(low + 16), "d"(low), "S"(0), "D"(0) : "memory");
    errno = -result;
    return got(result < 0 ? -1 : 0);
#else
    return "EPERM";
#endif
}
static const char *kernel_x32(void) {
#ifdef __x86_64__
    return got(syscall(0x40000000 + SYS_mount, "x", "/mnt", "tmpfs", 0, NULL));
#else
    return "EPERM";
#endif
}
static const char *kernel_alg(void) { return reached(socket(AF_ALG, SOCK_SEQPACKET, 0)); }
static const char *kernel_vsock(void) { return reached(socket(AF_VSOCK, SOCK_STREAM, 0)); }
static const char *kernel_lo(void) {
    struct ifreq request = {0};
    strcpy(request.ifr_name, "lo");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request)) return code(errno);
    return got(ioctl(fd, SIOCSIFFLAGS, &request));
}

/* Rights. */
static const char *rights_capset(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data)) return code(errno);
    data[0].permitted |= 1u << CAP_SYS_ADMIN;
    data[0].effective |= 1u << CAP_SYS_ADMIN;
    return got(syscall(SYS_capset, &header, data));
}
static const char *rights_ambient(void) { return got(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0)); }
static const char *rights_bounding(void) { return prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 1 ? OUT : "not there"; }
static const char *rights_oom(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    return fd < 0 ? code(errno) : got(write(fd, "-1000", 5));
}
static const char *rights_nice(void) { return got(setpriority(PRIO_PROCESS, 0, -20)); }
static const char *rights_realtime(void) {
    struct sched_param priority = {1};
    return got(sched_setscheduler(0, SCHED_FIFO, &priority));
}
static const char *rights_handle(void) {
    char room[sizeof(struct file_handle) + 128];
    struct file_handle *handle = (struct file_handle *)room;
    int mount_id;
    handle->handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, "/dev/shm", handle, &mount_id, 0)) return code(errno);
    return got(open_by_handle_at(open("/dev/shm", O_RDONLY), handle, O_RDONLY));
}
static const char *rights_immutable(void) {
    int fd = open("/dev/shm/immutable", O_RDWR | O_CREAT, 0600), flags = 0;
    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags)) return code(errno);
    flags |= FS_IMMUTABLE_FL;
    if (ioctl(fd, FS_IOC_SETFLAGS, &flags)) return code(errno);
    flags &= ~FS_IMMUTABLE_FL;
    ioctl(fd, FS_IOC_SETFLAGS, &flags);
    return OUT;
}
static const char *rights_trusted(void) { return got(setxattr("/etc", "trusted.overlay.redirect", "/", 1, 0)); }

/* Devices. */
static const char *device(const char *path, mode_t kind, int major, int minor) {
    unlink(path);
    if (mknod(path, kind | 0600, makedev(major, minor))) return code(errno);
    return readable(path);
}
static const char *device_disk(void) { return device("/tmp/disk", S_IFBLK, 7, 0); }
static const char *device_disk_dev(void) { return device("/dev/disk", S_IFBLK, 7, 0); }
static const char *device_disk_shm(void) { return device("/dev/shm/disk", S_IFBLK, 7, 0); }
static const char *device_disk_cache(void) { return device("/cache/disk", S_IFBLK, 7, 0); }
static const char *device_disk_tmpfs(void) { return device("/tmpfs/disk", S_IFBLK, 7, 0); }
static const char *device_mem(void) { return device("/tmp/mem", S_IFCHR, 1, 1); }
static const char *device_zero(void) { return device("/tmp/zero", S_IFCHR, 1, 5); }
static const char *device_kmsg(void) { return device("/tmp/kmsg", S_IFCHR, 1, 11); }
static const char *device_kvm(void) { return writable("/dev/kvm"); }
static const char *device_fuse(void) { return writable("/dev/fuse"); }
static const char *device_loop(void) { return writable("/dev/loop-control"); }
static const char *device_tun(void) { return writable("/dev/net/tun"); }
static const char *device_mode(void) { return got(chmod("/dev/full", 0666)); }
static const char *device_owner(void) { return got(chown("/dev/full", 0, 0)); }
static const char *device_time(void) { return got(utimensat(AT_FDCWD, "/dev/full", NULL, 0)); }
static const char *device_remove(void) { return got(unlink("/dev/full")); }
static const char *device_link(void) { return got(link("/dev/full", "/tmp/full")); }
static const char *device_tty(void) { return got(open("/dev/tty", O_RDWR)); }
static const char *device_tiocsti(void) {
    for (int fd = 0; fd < 3; fd++)
        if (!ioctl(fd, TIOCSTI, "x")) return OUT;
    return code(errno);
}

/* What /proc and /sys hold of the machine. */
static const char *proc_sysrq(void) { return writable("/proc/sysrq-trigger"); }
static const char *proc_core(void) { return writable("/proc/sys/kernel/core_pattern"); }
static const char *proc_modprobe(void) { return writable("/proc/sys/kernel/modprobe"); }
static const char *proc_oom(void) { return writable("/proc/sys/vm/panic_on_oom"); }
static const char *proc_binfmt(void) { return writable("/proc/sys/fs/binfmt_misc/register"); }
static const char *proc_irq(void) { return writable("/proc/irq/default_smp_affinity"); }
static const char *proc_version(void) { return got(chmod("/proc/version", 0444)); }
static const char *proc_kcore(void) { return readable("/proc/kcore"); }
static const char *proc_keys(void) { return readable("/proc/keys"); }
static const char *proc_timer(void) { return readable("/proc/timer_list"); }
static const char *proc_scsi(void) { return filled("/proc/scsi"); }
static const char *sys_uevent(void) { return writable("/sys/kernel/uevent_helper"); }
static const char *sys_power(void) { return writable("/sys/power/state"); }
static const char *sys_mode(void) { return got(chmod("/sys", 0555)); }
static const char *sys_firmware(void) { return filled("/sys/firmware"); }
static const char *sys_cgroup(void) { return filled("/sys/fs/cgroup"); }

/* The host's files. */
static const char *file_path(void) { return readable(canary); }
static const char *file_proc_root(void) { return below("/proc/1/root"); }
static const char *file_proc_cwd(void) { return below("/proc/1/cwd/../../../../.."); }
static const char *file_proc_task(void) { return below("/proc/thread-self/root/.."); }
static const char *file_dots(void) { return below("/../../../../../../.."); }
static const char *file_descriptors(void) {
    /* What the command was started with, which this process of it has, too; the pipe of the answer is not of that. */
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC)) return OUT;
    return "none";
}
static const char *file_chroot(void) {
    /* Out of a chroot by a folder that lies outside of the new one, and up from there. */
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/tmp/jail", 0755);
    if (chroot("/tmp/jail") || fchdir(fd)) return code(errno);
    for (int up = 0; up < 64; up++)
        if (chdir("..")) return code(errno);
    return chroot(".") ? code(errno) : readable(canary);
}
static const char *file_race(void) {
    /* A folder moves away while `..` is looked up in it. */
    mkdir("/tmp/race", 0755), mkdir("/tmp/race/a", 0755), mkdir("/tmp/race/a/b", 0755), mkdir("/tmp/race/c", 0755);
    pid_t other = fork();
    for (; !other;) rename("/tmp/race/a/b", "/tmp/race/c/b"), rename("/tmp/race/c/b", "/tmp/race/a/b");
    const char *result = "ENOENT";
    for (int turn = 0; turn < 20000 && strcmp(result, OUT); turn++) {
        int fd = openat(AT_FDCWD, "/tmp/race/a/b", O_PATH | O_DIRECTORY);
        char path[8192];
        snprintf(path, sizeof path, "../../../../../..%s", canary);
        int found = fd < 0 ? -1 : openat(fd, path, O_RDONLY);
        if (found >= 0) result = OUT;
        if (fd >= 0) close(fd);
    }
    kill(other, SIGKILL);
    return result;
}
static const char *file_mountinfo(void) { return says("/proc/self/mountinfo", canary_folder()); }
static const char *file_mounts(void) { return says("/proc/1/mounts", canary_folder()); }
static const char *file_environ(void) { return says("/proc/1/environ", "PYBUILD_"); }
static const char *file_maps(void) { return says("/proc/1/maps", canary_folder()); }

/* The host's processes. */
static const char *process_kill(void) { return got(kill(host_pid, 0)); }
static const char *process_pidfd(void) { return got(syscall(SYS_pidfd_open, host_pid, 0)); }
static const char *process_memory(void) {
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    long size = process_vm_readv(host_pid, &here, 1, &there, 1, 0);
    return size < 0 && errno == ESRCH ? "ESRCH" : reached(size);
}
static const char *process_limits(void) {
    struct rlimit limit;
    return got(prlimit(host_pid, RLIMIT_CORE, NULL, &limit));
}
static const char *process_abstract(void) {
    struct sockaddr_un name = {AF_UNIX, ""};
    strncpy(name.sun_path + 1, abstract, sizeof name.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return got(connect(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract)));
}
static const char *process_shm(void) { return got(shmget(key, 0, 0)); }
static const char *process_terminal(void) { return getsid(0) == 0 ? OUT : "its own session"; }

static const struct {
    const char *name, *tries;
    const char *(*try)(void);
} tricks[] = {
    {"mount-tmpfs", "mount(2) of a new tmpfs", mount_tmpfs},
    {"mount-proc", "mount(2) of a /proc without masks", mount_proc},
    {"mount-cgroup", "mount(2) of cgroup2, for release_agent and limits", mount_cgroup},
    {"mount-bind", "a bind mount over another folder", mount_bind},
    {"mount-remount", "remount /sys for writing", mount_remount},
    {"mount-overlay", "an overlay of its own", mount_overlay},
    {"mount-propagation", "share the mounts of / with others", mount_propagation},
    {"umount-mask", "umount what covers /proc/sys", mount_umount},
    {"fsopen", "fsopen(2), the newer mount call", mount_fsopen},
    {"open-tree", "a detached copy of a mount", mount_open_tree},
    {"move-mount", "move_mount(2)", mount_move},
    {"mount-setattr", "make /proc/sys writable by mount_setattr(2)", mount_setattr_},
    {"pivot-root", "pivot_root(2)", mount_pivot},
    {"unshare-user", "a user namespace by unshare(2)", ns_user},
    {"unshare-mount", "a mount namespace by unshare(2)", ns_mount},
    {"unshare-net", "a network namespace by unshare(2)", ns_net},
    {"clone-user", "a user namespace by clone(2)", ns_clone},
    {"clone3-user", "a user namespace by clone3(2), whose flags no filter sees", ns_clone3},
    {"setns", "setns(2) to a namespace of PID 1", ns_setns},
    {"uid-map", "write another map of ids", ns_uid_map},
    {"keyctl", "a keyring by keyctl(2)", kernel_keyctl},
    {"add-key", "a key in the kernel by add_key(2)", kernel_add_key},
    {"request-key", "a key of others by request_key(2)", kernel_request_key},
    {"bpf", "a map by bpf(2)", kernel_bpf},
    {"perf", "perf_event_open(2)", kernel_perf},
    {"userfaultfd", "userfaultfd(2)", kernel_userfaultfd},
    {"io-uring", "io_uring, which no filter sees", kernel_io_uring},
    {"kexec", "load another kernel", kernel_kexec},
    {"init-module", "load a module from memory", kernel_init_module},
    {"finit-module", "load a module from a file", kernel_finit_module},
    {"delete-module", "remove a module", kernel_delete_module},
    {"reboot", "reboot(2)", kernel_reboot},
    {"swapon", "swap to a file", kernel_swapon},
    {"acct", "process accounting to a file", kernel_acct},
    {"clock", "set the machine's clock", kernel_clock},
    {"hostname", "set the host name", kernel_hostname},
    {"dmesg", "read the kernel's log", kernel_dmesg},
    {"fanotify", "watch the files of all by fanotify", kernel_fanotify},
    {"quota", "quotactl(2)", kernel_quota},
    {"personality", "no random addresses for setuid programs", kernel_personality},
    {"iopl", "the ports of the machine", kernel_iopl},
    {"int-0x80", "mount(2) by the door of 32-bit programs", kernel_int80},
    {"x32", "mount(2) by the number of x32 programs", kernel_x32},
    {"af-alg", "a socket of the kernel's cryptography", kernel_alg},
    {"af-vsock", "a socket to the hypervisor", kernel_vsock},
    {"lo-flags", "set the flags of a network interface", kernel_lo},
    {"capset", "take CAP_SYS_ADMIN by capset(2)", rights_capset},
    {"ambient", "take CAP_SYS_ADMIN as an ambient capability", rights_ambient},
    {"bounding", "get CAP_SYS_ADMIN from a setuid or setcap program", rights_bounding},
    {"oom-score", "be spared by the OOM killer", rights_oom},
    {"nice", "run before all others by setpriority(2)", rights_nice},
    {"realtime", "run before all others by SCHED_FIFO", rights_realtime},
    {"open-by-handle", "open a file of any file system by its number", rights_handle},
    {"immutable", "a file that nobody can remove", rights_immutable},
    {"trusted-xattr", "lead overlayfs elsewhere by trusted.overlay.redirect", rights_trusted},
    {"mknod-disk", "mknod a disk in /tmp and read it", device_disk},
    {"mknod-disk-dev", "mknod a disk in /dev and read it", device_disk_dev},
    {"mknod-disk-shm", "mknod a disk in /dev/shm and read it", device_disk_shm},
    {"mknod-disk-cache", "mknod a disk in a cache mount and read it", device_disk_cache},
    {"mknod-disk-tmpfs", "mknod a disk in a tmpfs mount and read it", device_disk_tmpfs},
    {"mknod-mem", "mknod the machine's memory and read it", device_mem},
    {"mknod-zero", "mknod any character device and read it", device_zero},
    {"mknod-kmsg", "mknod the kernel's log and read it", device_kmsg},
    {"dev-kvm", "open /dev/kvm", device_kvm},
    {"dev-fuse", "open /dev/fuse", device_fuse},
    {"dev-loop", "open /dev/loop-control", device_loop},
    {"dev-tun", "open /dev/net/tun", device_tun},
    {"device-mode", "chmod a device node of the host", device_mode},
    {"device-owner", "chown a device node of the host", device_owner},
    {"device-time", "touch a device node of the host", device_time},
    {"device-remove", "remove a device node", device_remove},
    {"device-link", "a hard link to a device node of the host", device_link},
    {"dev-tty", "open the builder's terminal", device_tty},
    {"tiocsti", "type into the builder's terminal by TIOCSTI", device_tiocsti},
    {"sysrq", "open /proc/sysrq-trigger for writing", proc_sysrq},
    {"core-pattern", "open kernel.core_pattern for writing", proc_core},
    {"modprobe", "open kernel.modprobe for writing", proc_modprobe},
    {"panic-on-oom", "open vm.panic_on_oom for writing", proc_oom},
    {"binfmt", "open binfmt_misc's register for writing", proc_binfmt},
    {"irq", "open an interrupt's affinity for writing", proc_irq},
    {"proc-mode", "chmod a file of /proc, which is one for the whole machine", proc_version},
    {"kcore", "read the kernel's memory in /proc/kcore", proc_kcore},
    {"proc-keys", "read the keys of others in /proc/keys", proc_keys},
    {"timer-list", "read the processes of others in /proc/timer_list", proc_timer},
    {"proc-scsi", "see the machine's disks in /proc/scsi", proc_scsi},
    {"uevent-helper", "open /sys/kernel/uevent_helper for writing", sys_uevent},
    {"power-state", "open /sys/power/state for writing", sys_power},
    {"sys-mode", "chmod /sys", sys_mode},
    {"firmware", "look into /sys/firmware", sys_firmware},
    {"cgroup", "find cgroups in /sys/fs/cgroup", sys_cgroup},
    {"host-path", "read a file of the host by its path", file_path},
    {"proc-1-root", "the same below /proc/1/root", file_proc_root},
    {"proc-1-cwd", "the same above /proc/1/cwd", file_proc_cwd},
    {"proc-task-root", "the same above the root of a thread", file_proc_task},
    {"dot-dot", "the same above /", file_dots},
    {"descriptors", "a descriptor that somebody left open", file_descriptors},
    {"chroot", "the same after chroot(2) with a folder open outside", file_chroot},
    {"rename-race", "the same above a folder that is renamed meanwhile", file_race},
    {"mountinfo", "a path of the host in /proc/self/mountinfo", file_mountinfo},
    {"mounts", "a path of the host in /proc/1/mounts", file_mounts},
    {"environ", "the builder's environment in /proc/1/environ", file_environ},
    {"maps", "a path of the host in /proc/1/maps", file_maps},
    {"host-kill", "signal a process of the host", process_kill},
    {"host-pidfd", "a pidfd of a process of the host", process_pidfd},
    {"host-memory", "read the memory of a process of the host", process_memory},
    {"host-limits", "read the limits of a process of the host", process_limits},
    {"abstract-socket", "connect to an abstract socket of the host", process_abstract},
    {"host-shm", "shared memory of the host by its key", process_shm},
    {"host-session", "stay in the builder's session", process_terminal},
};

int main(int count, char **arguments) {
    if (count != 5) return 2;
    canary = arguments[1], abstract = arguments[2], key = atoi(arguments[3]), host_pid = atoi(arguments[4]);
    for (size_t number = 0; number < sizeof tricks / sizeof *tricks; number++) {
        int answer[2], status;
        char text[100] = "";
        fflush(stdout);
        if (pipe2(answer, O_CLOEXEC)) return 3;
        pid_t pid = fork();
        if (!pid) {
            const char *result = tricks[number].try();
            if (write(answer[1], result, strlen(result)) < 0) _exit(1);
            _exit(0);
        }
        close(answer[1]);
        if (read(answer[0], text, sizeof text - 1) < 0) return 4;
        close(answer[0]);
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status)) snprintf(text, sizeof text, "SIG%s", sigabbrev_np(WTERMSIG(status)));
        printf("trick|%s|%s|%s\n", tricks[number].name, tricks[number].tries, text);
    }
    puts("trick|end||");
}
