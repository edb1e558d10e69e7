/* test_hidden.c - a process that hid its memory: when it crashes there is no core dump, and another process of the
 * same user can neither read its memory nor trace it. Each of that is possible before, or the case says that this
 * system does not allow it anyway. As root the processes become another user first: root may read everything. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/os.h"
#include "test.h"

enum { NOBODY = 65534 };
enum { READ_MEM = 1, READ_VM = 2, READ_ENVIRON = 4, TRACED = 8 };
static volatile char secret[] = "31415926 is private";

static void become_nobody(void) {
    if (geteuid() == 0 && (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))) _exit(9);
    /* A change of user hides the memory by itself; a program that was started by this user does not. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) _exit(9);
}

/* A process that waits until it is told to go on, with its memory hidden or not. */
static pid_t start(bool hide, int *tell) {
    int ready[2], go[2];
    char byte = 0;
    if (!CHECK(pipe(ready) == 0 && pipe(go) == 0)) exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        become_nobody();
        if (hide && !nigh_os_hide_memory()) _exit(8);
        (void)!write(ready[1], &byte, 1);
        (void)!read(go[0], &byte, 1);
        abort();
    }
    close(ready[1]);
    close(go[0]);
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    *tell = go[1];
    return pid;
}

static bool reads_file(pid_t pid, const char *name, uintptr_t at) {
    char path[64], got[sizeof secret] = "";
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return false;
    ssize_t n = pread(fd, got, sizeof got, (off_t)at);
    close(fd);
    return at ? n == (ssize_t)sizeof got && memcmp(got, (const char *)secret, sizeof got) == 0 : n >= 0;
}

/* What another process of the same user can do: as its exit code. */
static int spy_on(pid_t pid) {
    pid_t spy = fork();
    if (spy == 0) {
        int can = 0;
        become_nobody();
        char got[sizeof secret] = "";
        struct iovec here = { got, sizeof got }, there = { (void *)(uintptr_t)secret, sizeof got };
        if (reads_file(pid, "mem", (uintptr_t)secret)) can |= READ_MEM;
        if (reads_file(pid, "environ", 0)) can |= READ_ENVIRON;
        if (process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)sizeof got) can |= READ_VM;
        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0) can |= TRACED;
        _exit(can);
    }
    int status = 0;
    waitpid(spy, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void end(pid_t pid, int tell) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(tell);
}

static void test_nobody_looks_in(void) {
    int tell;
    pid_t pid = start(false, &tell);
    int open_can = spy_on(pid);
    end(pid, tell);
    pid = start(true, &tell);
    int hidden_can = spy_on(pid);
    end(pid, tell);
    CHECK_MSG(hidden_can == 0, "a process of the same user could (bits) %d", hidden_can);
    if (!(open_can & READ_ENVIRON)) TEST_SKIP("this system shows no process to another one of the same user");
    printf("  before: environ, memory, vm, trace: %d %d %d %d; hidden: none\n", (open_can & READ_ENVIRON) != 0,
           (open_can & READ_MEM) != 0, (open_can & READ_VM) != 0, (open_can & TRACED) != 0);
}

/* Does a crash in this folder leave anything? *dumped: what the system says of it. */
static size_t crash(const char *folder, bool hide, bool *dumped) {
    int status = 0, tell;
    size_t files = 0;
    if (!CHECK(chdir(folder) == 0)) return 0;
    setrlimit(RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
    pid_t pid = start(hide, &tell);
    (void)!write(tell, "", 1);
    close(tell);
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    *dumped = WCOREDUMP(status) != 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        files++;
        unlink(e->d_name);
    }
    if (d) closedir(d);
    return files;
}

static void test_no_core_dump(void) {
    char folder[] = "/tmp/nigh-hidden-XXXXXX", before[4096];
    bool open_dumped = false, hidden_dumped = false;
    if (!CHECK(getcwd(before, sizeof before) && mkdtemp(folder) && chmod(folder, 0777) == 0)) return;
    size_t open_files = crash(folder, false, &open_dumped), hidden_files = crash(folder, true, &hidden_dumped);
    CHECK(chdir(before) == 0);
    rmdir(folder);
    CHECK_MSG(!hidden_dumped && hidden_files == 0, "dumped %d, %zu files", hidden_dumped, hidden_files);
    printf("  before: %s, %zu files here; hidden: none\n", open_dumped ? "dumped" : "not dumped", open_files);
    if (!open_dumped) TEST_SKIP("this system writes no core dumps, hidden or not");
}

TEST_MAIN(T(test_nobody_looks_in), T(test_no_core_dump))
