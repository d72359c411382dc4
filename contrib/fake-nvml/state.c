/*
 * The state file: $FAKENVML_STATE, or state.txt beside this library. Every call begins with a look whether it has changed, by stat(2); it is read
 * and put into a table only then, so that what a reader of GPUs costs can be measured against this library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

enum { MAX_STATE = 8 << 20 };

struct line {
    const char *key, *value; /* ended by NUL, inside text */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat seen;
static char *bytes;          /* the file, its lines cut */
static struct line *table;   /* open addressing */
static size_t slots;         /* of the table, a power of two */
static struct event *events; /* by K */
static size_t event_count;
static int orders;           /* whether any line is a crash, a hang or a failure */

/* The node of a test cluster that the asking process is on: its parent, the shim, was told by Slurm. */
static int node_name(char *name, size_t size) {
    static const char key[] = "SLURMD_NODENAME=";
    char path[64], word[PATH_MAX];
    int found = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/environ", (int)getppid());
    if (!(f = fopen(path, "re")))
        return 0;
    for (size_t n = 0; !found;) {
        int c = fgetc(f);
        if (c == EOF)
            break;
        if (n < sizeof word - 1)
            word[n++] = (char)c;
        if (c == 0) {
            if (strncmp(word, key, sizeof key - 1) == 0)
                found = snprintf(name, size, "%s", word + sizeof key - 1) < (int)size;
            n = 0;
        }
    }
    fclose(f);
    return found && !strchr(name, '/');
}

static const char *state_path(void) {
    static char path[PATH_MAX];
    const char *env = getenv("FAKENVML_STATE");
    char *slash, node[256];
    Dl_info self;

    if (env && *env)
        return env;
    if (path[0])
        return path;
    if (!dladdr((void *)&lock, &self) || !self.dli_fname)
        return "state.txt";
    snprintf(path, sizeof path, "%s", self.dli_fname);
    slash = strrchr(path, '/');
    slash = slash ? slash + 1 : path;
    if (node_name(node, sizeof node)) {
        snprintf(slash, sizeof path - (size_t)(slash - path), "state.%s.txt", node);
        if (access(path, R_OK) == 0)
            return path;
    }
    snprintf(slash, sizeof path - (size_t)(slash - path), "state.txt");
    return path;
}

static size_t slot_of(const char *key) {
    size_t h = 14695981039346656037ULL;
    const char *c;
    for (c = key; *c; c++)
        h = (h ^ (unsigned char)*c) * 1099511628211ULL;
    for (h &= slots - 1; table[h].key && strcmp(table[h].key, key) != 0; h = (h + 1) & (slots - 1))
        ;
    return h;
}

static void add_event(const char *key, const char *v) {
    struct event e = {0, 0, 0, 0, 0xffffffff, 0xffffffff};
    size_t i;

    e.k = strtoull(key, NULL, 10);
    if (sscanf(v, "%u,%lli,%lli,%u,%u", &e.gpu, (long long *)&e.type, (long long *)&e.data, &e.gi, &e.ci) < 3)
        return;
    for (i = event_count; i > 0 && events[i - 1].k > e.k; i--)
        events[i] = events[i - 1];
    events[i] = e;
    event_count++;
}

/* Of two lines with one key the first counts. */
static void parse(size_t n) {
    size_t lines = 1, i;
    char *at, *end, *value;

    for (i = 0; i < n; i++)
        lines += bytes[i] == '\n';
    for (slots = 64; slots < 2 * lines; slots *= 2)
        ;
    free(table);
    free(events);
    table = calloc(slots, sizeof *table);
    events = calloc(lines, sizeof *events);
    event_count = orders = 0;
    for (at = bytes; *at; at = end) {
        end = at + strcspn(at, "\n");
        if (*end)
            *end++ = '\0';
        if (*at == '#')
            continue;
        value = at + strcspn(at, " \t");
        if (*value) {
            *value++ = '\0';
            value += strspn(value, " \t");
        }
        if (strncmp(at, "event.", 6) == 0)
            add_event(at + 6, value);
        orders |= strstr(at, "crash.") || strstr(at, "hang.") || strstr(at, "fail.");
        i = slot_of(at);
        if (!table[i].key)
            table[i] = (struct line){at, value};
    }
}

/* Tests replace the file by rename(2), so a read never sees half of one. */
static void refresh(void) {
    struct stat now;
    size_t n = 0;
    FILE *f;

    if (stat(state_path(), &now) != 0)
        memset(&now, 0, sizeof now);
    if (table && now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    free(bytes);
    bytes = calloc(1, (size_t)now.st_size + 2);
    f = now.st_ino && now.st_size <= MAX_STATE ? fopen(state_path(), "re") : NULL;
    if (f) {
        n = fread(bytes, 1, (size_t)now.st_size, f);
        fclose(f);
    }
    seen = now;
    parse(n);
}

int find(const char *key, char value[MAX_VALUE]) {
    const struct line *l;
    int found;

    pthread_mutex_lock(&lock);
    l = &table[slot_of(key)];
    found = l->key != NULL;
    if (found)
        snprintf(value, MAX_VALUE, "%s", l->value);
    pthread_mutex_unlock(&lock);
    return found;
}

int state_orders(void) {
    int any;

    pthread_mutex_lock(&lock);
    refresh();
    any = orders;
    pthread_mutex_unlock(&lock);
    return any;
}

unsigned long long number(const char *key, unsigned long long otherwise) {
    char v[MAX_VALUE];
    return find(key, v) && *v ? strtoull(v, NULL, 0) : otherwise;
}

int device_find(nvmlDevice_t device, const char *what, char value[MAX_VALUE]) {
    char key[256];
    if (device.handle->mig == WHOLE)
        snprintf(key, sizeof key, "gpu.%u.%s", device.handle->index, what);
    else
        snprintf(key, sizeof key, "gpu.%u.mig.%d.%s", device.handle->index, device.handle->mig, what);
    return find(key, value);
}

unsigned long long device_number(nvmlDevice_t device, const char *what, unsigned long long otherwise) {
    char v[MAX_VALUE];
    return device_find(device, what, v) && *v ? strtoull(v, NULL, 0) : otherwise;
}

int event_after(unsigned long long k, struct event *e) {
    size_t low = 0, high;
    int found;

    pthread_mutex_lock(&lock);
    for (high = event_count; low < high;) {
        size_t mid = (low + high) / 2;
        if (events[mid].k > k)
            high = mid;
        else
            low = mid + 1;
    }
    found = low < event_count;
    if (found)
        *e = events[low];
    pthread_mutex_unlock(&lock);
    return found;
}

unsigned long long event_last(void) {
    unsigned long long k;

    pthread_mutex_lock(&lock);
    k = event_count ? events[event_count - 1].k : 0;
    pthread_mutex_unlock(&lock);
    return k;
}

/* A thread that waits costs nothing: one more of this library is told of a rename by the kernel. */
static pthread_cond_t changed;
static pthread_mutex_t changed_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long changes;
static int watching;

static void *watch(void *arg) {
    int fd = (int)(long)arg;
    char drop[4096];

    while (read(fd, drop, sizeof drop) > 0) {
        pthread_mutex_lock(&changed_lock);
        changes++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&changed_lock);
    }
    watching = 0;
    return NULL;
}

static void start_watching(void) {
    char dir[PATH_MAX], *slash;
    pthread_condattr_t attr;
    pthread_t thread;
    int fd;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attr);
    snprintf(dir, sizeof dir, "%s", state_path());
    slash = strrchr(dir, '/');
    snprintf(slash ? slash + 1 : dir, 2, "%s", slash ? "" : ".");
    fd = inotify_init1(IN_CLOEXEC);
    watching = fd >= 0 && inotify_add_watch(fd, dir, IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE) >= 0 &&
               pthread_create(&thread, NULL, watch, (void *)(long)fd) == 0;
}

unsigned long state_changes(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned long n;

    pthread_once(&once, start_watching);
    pthread_mutex_lock(&changed_lock);
    n = changes;
    pthread_mutex_unlock(&changed_lock);
    return n;
}

void state_wait(unsigned long known, int milliseconds) {
    struct timespec until;

    if (!watching && milliseconds > 5) /* no more inotify instances: look often instead */
        milliseconds = 5;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (milliseconds % 1000) * 1000000L;
    until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&changed_lock);
    while (changes == known && pthread_cond_timedwait(&changed, &changed_lock, &until) == 0)
        ;
    pthread_mutex_unlock(&changed_lock);
}
