// Stands in for Android's C library on a machine with glibc, so that the libraries of the Android package can be loaded and run there.
// Names and numbers that differ are Android's here; everything else is glibc's own.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

int *__errno(void) { return __errno_location(); }

void android_set_abort_message(const char *message) { (void)message; }

int __system_property_get(const char *name, char *value) {
    (void)name;
    value[0] = 0;
    return 0;
}

// Android numbers what can be asked for differently.
long sysconf(int name) {
    static long (*real)(int);
    if (!real) real = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    switch (name) {
    case 0x27:
    case 0x28: name = _SC_PAGESIZE; break;
    case 0x60: name = _SC_NPROCESSORS_CONF; break;
    case 0x61: name = _SC_NPROCESSORS_ONLN; break;
    case 0x62: name = _SC_PHYS_PAGES; break;
    case 0x63: name = _SC_AVPHYS_PAGES; break;
    }
    return real(name);
}
