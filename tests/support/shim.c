// An LD_PRELOAD shim for `power.rs`: keeps a journal of all that happens to files and names below
// $PL_DIR, in $PL_UNDO/journal-LIFE, from which a loss of power can be played: what no fsync or
// fdatasync has covered is taken back. What is overwritten or cut is in the journal itself; what is
// unlinked or renamed over stays reachable as $PL_UNDO/grave-NUMBER. A file's fsync covers its
// content alone; names are covered by the fsync of their directory and nothing else, which is what
// POSIX promises. Each sync first takes $PL_SYNC_MICROS, as on a slow disk; with
// $PL_DEAF none covers anything. A process that is started again, without a loss of power between,
// begins another life and numbers its records after those of the former.
//
// Whoever starts nodes cannot give each of them variables of its own. So $PL_UNDOS is a directory
// in which each node that has an entry of its name finds its $PL_UNDO; its $PL_DIR is then the
// directory above its data dir. In $PL_CLOCKS the file of a node's name, or `up` for whoever is no
// node, holds by how many nanoseconds its wall clock is off (an i64; it may change at any time).
// With $PL_BIND a node's connections come from the address that it listens at for peers, so that
// a filter of packets can tell whose they are.
//
// A record: kind, number, inode, x, y, z, length of what follows (u64 each), and that.
//   W file   x offset, y size before, z bytes written   what stood there
//   S any    x number up to which it is covered
//   C dir                                                name of a file that is new
//   M dir                                                name of a directory that is new
//   U dir                                                name that was unlinked
//   D dir    x inode of the directory that was removed   its name
//   R dir    x inode of the target's directory, y whether there was a target   name NUL target
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *dir, *undo_dir;
static size_t dir_length;
static long micros;
static uint64_t number;
static int journal = -1, deaf;

#define IN pthread_mutex_lock(&lock)
#define OUT do { int kept = errno; pthread_mutex_unlock(&lock); errno = kept; } while (0)

static volatile int64_t *off;
static struct in_addr own;

// $PL_CLOCKS/NAME, as long as this lives.
static void follow_clock(const char *name) {
    char path[PATH_MAX];
    if (!getenv("PL_CLOCKS")) return;
    snprintf(path, sizeof path, "%s/%s", getenv("PL_CLOCKS"), name);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) abort();
    off = page;
    syscall(SYS_close, fd);
}

static void find_own_address(void) {
    const char *url = getenv("ETCD_LISTEN_PEER_URLS");
    char host[64] = "";
    if (getenv("PL_BIND") && url && sscanf(url, "http://%63[0-9.]", host) == 1) inet_aton(host, &own);
}

__attribute__((constructor)) static void begin(void) {
    static char above[PATH_MAX], undo[PATH_MAX];
    const char *data = getenv("ETCD_DATA_DIR"), *undos = getenv("PL_UNDOS"), *name = "up";
    if (data) {
        snprintf(above, sizeof above, "%s", data);
        char *slash = strrchr(above, '/');
        if (slash) *slash = 0;
        name = strrchr(above, '/') ? strrchr(above, '/') + 1 : above;
    }
    follow_clock(name);
    find_own_address();
    dir = getenv("PL_DIR"), undo_dir = getenv("PL_UNDO");
    if (!undo_dir && undos && data) {
        snprintf(undo, sizeof undo, "%s/%s", undos, name);
        struct stat st;
        if (!syscall(SYS_newfstatat, AT_FDCWD, undo, &st, 0)) dir = above, undo_dir = undo;
    }
    if (!dir || !undo_dir) { dir = NULL; return; }
    dir_length = strlen(dir);
    if (getenv("PL_SYNC_MICROS")) micros = atol(getenv("PL_SYNC_MICROS"));
    deaf = !!getenv("PL_DEAF");
    char path[PATH_MAX];
    int flags = O_CREAT | O_EXCL | O_WRONLY | O_APPEND | O_CLOEXEC, fd = -1;
    for (uint64_t life = 0; fd < 0 && life < 10000; life++) {
        snprintf(path, sizeof path, "%s/journal-%04lu", undo_dir, (unsigned long)life);
        fd = syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
        number = life << 40;
    }
    if (fd < 0) abort();
    journal = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 900);
    if (journal < 0) abort();
    syscall(SYS_close, fd);
}

// The wall clock, which may be wrong; no other is touched.
int clock_gettime(clockid_t clock, struct timespec *at) {
    int r = syscall(SYS_clock_gettime, clock, at);
    if (r || !off || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return r;
    int64_t nanos = at->tv_sec * 1000000000L + at->tv_nsec + *off;
    at->tv_sec = nanos / 1000000000L, at->tv_nsec = nanos % 1000000000L;
    return 0;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int r = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return r;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int connect(int fd, const struct sockaddr *to, socklen_t length) {
    struct sockaddr_in from;
    socklen_t n = sizeof from;
    int is_loopback = to->sa_family == AF_INET && ntohl(((const struct sockaddr_in *)to)->sin_addr.s_addr) >> 24 == 127;
    if (own.s_addr && is_loopback && !getsockname(fd, (struct sockaddr *)&from, &n) && from.sin_family == AF_INET && !from.sin_addr.s_addr && !from.sin_port) {
        int yes = 1;
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        from.sin_addr = own;
        if (bind(fd, (struct sockaddr *)&from, sizeof from)) return -1;
    }
    return syscall(SYS_connect, fd, to, length);
}

static void note(char kind, uint64_t inode, uint64_t x, uint64_t y, uint64_t z, const void *more, size_t n) {
    uint64_t head[7] = {(unsigned char)kind, ++number, inode, x, y, z, n};
    struct iovec parts[2] = {{head, sizeof head}, {(void *)more, n}};
    if (syscall(SYS_writev, journal, parts, 2) != (long)(sizeof head + n)) abort();
}

static int below(const char *path) {
    return !strncmp(path, dir, dir_length) && (path[dir_length] == '/' || !path[dir_length]);
}

// The inode of a file or directory of ours that is open; 0 for any other.
static uint64_t inode_of(int fd, struct stat *st) {
    if (!dir || fd < 0 || syscall(SYS_fstat, fd, st) || !(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path) ? st->st_ino : 0;
}

// Finds an absolute path below $PL_DIR; false for any other.
static int absolute(int at, const char *given, char *path) {
    if (!dir) return 0;
    if (given[0] == '/') {
        snprintf(path, PATH_MAX, "%s", given);
    } else {
        char base[PATH_MAX], link[64];
        if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        long n = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (n <= 0) return 0;
        base[n] = 0;
        if (snprintf(path, PATH_MAX, "%s/%s", base, given) >= PATH_MAX) return 0;
    }
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') path[--n] = 0;
    return below(path) && path[dir_length];
}

// The inode of the directory that a path is in, and the name there.
static uint64_t parent(const char *path, const char **name) {
    char base[PATH_MAX];
    snprintf(base, sizeof base, "%s", path);
    char *slash = strrchr(base, '/');
    *name = path + (slash - base) + 1;
    *slash = 0;
    struct stat st;
    return syscall(SYS_newfstatat, AT_FDCWD, base, &st, 0) ? 0 : st.st_ino;
}

// Keeps what is about to lose this name; under the number that the next record gets.
static void bury(const char *path) {
    char grave[PATH_MAX];
    snprintf(grave, sizeof grave, "%s/grave-%lu", undo_dir, (unsigned long)(number + 1));
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, grave, 0)) abort();
}

// It has not lost it after all.
static void unearth(void) {
    char grave[PATH_MAX];
    int kept = errno;
    snprintf(grave, sizeof grave, "%s/grave-%lu", undo_dir, (unsigned long)(number + 1));
    syscall(SYS_unlinkat, AT_FDCWD, grave, 0);
    errno = kept;
}

static void keep_old(int fd, uint64_t inode, uint64_t size, uint64_t offset, uint64_t old, uint64_t length) {
    char *bytes = malloc(old ? old : 1);
    if (!bytes) abort();
    if (old) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int own = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
        if (own < 0) abort();
        for (uint64_t done = 0; done < old;) {
            long n = syscall(SYS_pread64, own, bytes + done, old - done, offset + done);
            if (n <= 0) abort();
            done += n;
        }
        syscall(SYS_close, own);
    }
    note('W', inode, offset, size, length, bytes, old);
    free(bytes);
}

// Before a write; -1 as offset is where the file stands.
static void will_write(int fd, int64_t offset, uint64_t length) {
    struct stat st;
    uint64_t inode = inode_of(fd, &st);
    if (!inode || !S_ISREG(st.st_mode)) return;
    uint64_t size = st.st_size;
    if (offset < 0) offset = syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND ? (int64_t)size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    uint64_t old = (uint64_t)offset < size ? size - offset : 0;
    keep_old(fd, inode, size, offset, old < length ? old : length, length);
}

static int plain(int fd) {
    struct stat st;
    return !dir || syscall(SYS_fstat, fd, &st) || !S_ISREG(st.st_mode);
}
#define WRITE(offset, length, call) \
    if (plain(fd)) return call; \
    IN; \
    will_write(fd, offset, length); \
    long r = call; \
    OUT; \
    return r;
static size_t total(const struct iovec *parts, int n) {
    size_t sum = 0;
    for (int i = 0; i < n; i++) sum += parts[i].iov_len;
    return sum;
}
ssize_t write(int fd, const void *bytes, size_t n) { WRITE(-1, n, syscall(SYS_write, fd, bytes, n)) }
ssize_t writev(int fd, const struct iovec *parts, int n) { WRITE(-1, total(parts, n), syscall(SYS_writev, fd, parts, n)) }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) { WRITE(at, n, syscall(SYS_pwrite64, fd, bytes, n, at)) }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) { return pwrite64(fd, bytes, n, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t at) { WRITE(at, total(parts, n), syscall(SYS_pwritev, fd, parts, n, at, 0)) }
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) { return pwritev64(fd, parts, n, at); }

int ftruncate64(int fd, off64_t to) {
    struct stat st;
    IN;
    uint64_t inode = inode_of(fd, &st);
    if (inode) {
        uint64_t size = st.st_size, cut = (uint64_t)to < size ? size - to : 0;
        keep_old(fd, inode, size, to, cut, cut);
    }
    int r = syscall(SYS_ftruncate, fd, to);
    OUT;
    return r;
}
int ftruncate(int fd, off_t to) { return ftruncate64(fd, to); }

// None of these is used; one that began to be would escape the journal.
int fallocate64(int fd, int mode, off64_t at, off64_t n) { if (!plain(fd)) abort(); return syscall(SYS_fallocate, fd, mode, at, n); }
int fallocate(int fd, int mode, off_t at, off_t n) { return fallocate64(fd, mode, at, n); }
int posix_fallocate(int fd, off_t at, off_t n) { return fallocate64(fd, 0, at, n) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return fallocate64(fd, 0, at, n) ? errno : 0; }
int truncate(const char *path, off_t n) { char all[PATH_MAX]; if (absolute(AT_FDCWD, path, all)) abort(); return syscall(SYS_truncate, path, n); }
int linkat(int a, const char *from, int b, const char *to, int flags) { char all[PATH_MAX]; if (absolute(b, to, all)) abort(); return syscall(SYS_linkat, a, from, b, to, flags); }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags) { struct stat st; if (inode_of(out, &st)) abort(); return syscall(SYS_copy_file_range, in, a, out, b, n, flags); }

static int sync_with(int fd, int call) {
    struct stat st;
    IN;
    uint64_t inode = inode_of(fd, &st), covered = number;
    OUT;
    if (inode && micros) usleep(micros);
    int r = syscall(call, fd);
    if (inode && !r && !deaf) {
        IN;
        note('S', inode, covered, 0, 0, NULL, 0);
        OUT;
    }
    return r;
}
int fsync(int fd) { return sync_with(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_with(fd, SYS_fdatasync); }

static int open_with(int at, const char *given, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !absolute(at, given, path)) return syscall(SYS_openat, at, given, flags, mode);
    IN;
    struct stat st;
    int is_there = !syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0);
    if (is_there && S_ISREG(st.st_mode) && flags & O_TRUNC && st.st_size) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) abort();
        keep_old(fd, st.st_ino, st.st_size, 0, st.st_size, st.st_size);
        syscall(SYS_close, fd);
    }
    int fd = syscall(SYS_openat, at, given, flags, mode);
    if (fd >= 0 && !is_there) {
        const char *name;
        uint64_t inode = parent(path, &name);
        note('C', inode, 0, 0, 0, name, strlen(name));
    }
    OUT;
    return fd;
}
#define MODE va_list more; va_start(more, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; va_end(more);
int open64(const char *path, int flags, ...) { MODE return open_with(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int open(const char *path, int flags, ...) { MODE return open_with(AT_FDCWD, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return open_with(at, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return open_with(at, path, flags, mode); }

int mkdirat(int at, const char *given, mode_t mode) {
    char path[PATH_MAX];
    if (!absolute(at, given, path)) return syscall(SYS_mkdirat, at, given, mode);
    IN;
    int r = syscall(SYS_mkdirat, at, given, mode);
    if (!r) {
        const char *name;
        uint64_t inode = parent(path, &name);
        note('M', inode, 0, 0, 0, name, strlen(name));
    }
    OUT;
    return r;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int at, const char *given, int flags) {
    char path[PATH_MAX];
    if (!absolute(at, given, path)) return syscall(SYS_unlinkat, at, given, flags);
    IN;
    struct stat st;
    const char *name;
    uint64_t inode = parent(path, &name);
    int r, is_there = !syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW);
    int is_file = is_there && !S_ISDIR(st.st_mode) && !(flags & AT_REMOVEDIR);
    if (is_file) bury(path);
    r = syscall(SYS_unlinkat, at, given, flags);
    if (!r && is_file) note('U', inode, 0, 0, 0, name, strlen(name));
    else if (!r) note('D', inode, st.st_ino, 0, 0, name, strlen(name));
    else if (is_file) unearth();
    OUT;
    return r;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int renameat(int a, const char *given, int b, const char *target) {
    char from[PATH_MAX], to[PATH_MAX];
    int ours = absolute(a, given, from), theirs = absolute(b, target, to);
    if (ours != theirs) abort();
    if (!ours) return syscall(SYS_renameat, a, given, b, target);
    IN;
    struct stat st;
    const char *name, *new_name;
    uint64_t inode = parent(from, &name), new_inode = parent(to, &new_name);
    int replaces = !syscall(SYS_newfstatat, AT_FDCWD, to, &st, AT_SYMLINK_NOFOLLOW);
    if (replaces && S_ISDIR(st.st_mode)) abort();
    if (replaces) bury(to);
    int r = syscall(SYS_renameat, a, given, b, target);
    if (r) {
        if (replaces) unearth();
        OUT;
        return r;
    }
    char names[2 * NAME_MAX + 2];
    int n = snprintf(names, sizeof names, "%s%c%s", name, 0, new_name);
    note('R', inode, new_inode, replaces, 0, names, n);
    OUT;
    return r;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
