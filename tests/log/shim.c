// An LD_PRELOAD shim for `power.rs`: keeps an undo record of every write below $PL_DIR that no
// fsync or fdatasync has covered yet, and lets syncs fail from the $PL_FAIL_AFTERth on.
// Each sync first takes $PL_SYNC_MICROS, as on a slow disk. Renames and unlinks are not tracked. Undo record: offset, bytes that follow, size of the file
// before, length of the write (u64 each), then the bytes that stood there.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FD 4096
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int undo_of[MAX_FD]; // undo fd + 1; 0 unknown, -1 not tracked
static const char *dir, *undo_dir;
static long fail_after = -1, micros, syncs;

__attribute__((constructor)) static void begin(void) {
    dir = getenv("PL_DIR");
    undo_dir = getenv("PL_UNDO");
    if (getenv("PL_FAIL_AFTER")) fail_after = atol(getenv("PL_FAIL_AFTER"));
    if (getenv("PL_SYNC_MICROS")) micros = atol(getenv("PL_SYNC_MICROS"));
}

static int tracked(int fd) {
    if (!dir || fd < 0 || fd >= MAX_FD || undo_of[fd] < 0) return -1;
    if (undo_of[fd] > 0) return undo_of[fd] - 1;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    struct stat st;
    if (n > 0) path[n] = 0;
    if (n <= 0 || strncmp(path, dir, strlen(dir)) || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        undo_of[fd] = -1;
        return -1;
    }
    snprintf(path, sizeof path, "%s/%lu.undo", undo_dir, (unsigned long)st.st_ino);
    int undo = syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0644);
    if (undo < 0) abort();
    undo_of[fd] = undo + 1;
    return undo;
}

static void save(int fd, int undo, uint64_t offset, uint64_t length) {
    struct stat st;
    if (fstat(fd, &st)) abort();
    uint64_t size = st.st_size, old = offset < size ? size - offset : 0;
    if (old > length) old = length;
    char *record = malloc(32 + old);
    uint64_t head[4] = {offset, old, size, length};
    memcpy(record, head, 32);
    if (old && syscall(SYS_pread64, fd, record + 32, old, offset) != (ssize_t)old) abort();
    if (syscall(SYS_write, undo, record, 32 + old) != (ssize_t)(32 + old)) abort();
    free(record);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset) {
    pthread_mutex_lock(&lock);
    int undo = tracked(fd);
    if (undo >= 0) save(fd, undo, offset, n);
    long r = syscall(SYS_pwrite64, fd, bytes, n, offset);
    int e = errno;
    pthread_mutex_unlock(&lock);
    errno = e;
    return r;
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return pwrite64(fd, bytes, n, offset); }

// The log writes at offsets only; a plain write below $PL_DIR would escape the undo records.
ssize_t write(int fd, const void *bytes, size_t n) {
    pthread_mutex_lock(&lock);
    int undo = tracked(fd);
    pthread_mutex_unlock(&lock);
    if (undo >= 0) abort();
    return syscall(SYS_write, fd, bytes, n);
}

static int sync_with(int fd, int number) {
    pthread_mutex_lock(&lock);
    int undo = tracked(fd), r, e;
    if (undo >= 0 && micros) {
        pthread_mutex_unlock(&lock);
        usleep(micros);
        pthread_mutex_lock(&lock);
    }
    if (undo >= 0 && fail_after >= 0 && ++syncs > fail_after) {
        r = -1, e = EIO;
    } else {
        r = syscall(number, fd), e = errno;
        if (undo >= 0 && r == 0 && syscall(SYS_ftruncate, undo, 0)) abort();
    }
    pthread_mutex_unlock(&lock);
    errno = e;
    return r;
}
int fsync(int fd) { return sync_with(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_with(fd, SYS_fdatasync); }

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD && undo_of[fd]) {
        pthread_mutex_lock(&lock);
        if (undo_of[fd] > 0) syscall(SYS_close, undo_of[fd] - 1);
        undo_of[fd] = 0;
        pthread_mutex_unlock(&lock);
    }
    return syscall(SYS_close, fd);
}
