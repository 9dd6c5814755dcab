"""Attacks on the machine: each is a program, and a line that says what must happen to it."""

from __future__ import annotations

from sandboxes.base import MIB, Ending
from sandboxes.conformance.cases import Case, attack
from sandboxes.conformance.claims import Claim

_CPU, _WALL = Ending.CPU_LIMIT, Ending.WALL_LIMIT

TIME = [
    attack("loop", Claim.TIME, "processor time ends it", "while True: pass", _CPU, cpu_seconds=0.3),
    attack("sleep", Claim.TIME, "time ends it", "import time; time.sleep(10**6)", _WALL, wall_seconds=0.5),
    attack(
        "loop that catches everything",
        Claim.TIME,
        "a kill ends it, which no handler sees",
        """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, lambda *_: None)
            except (OSError, ValueError): pass
        while True:
            try:
                while True: pass
            except BaseException: pass
        """,
        _CPU,
        cpu_seconds=0.3,
    ),
    attack(
        "many loops",
        Claim.TIME,
        "time ends what spreads its processor time over processes",
        """
        for _ in range(8):
            if os.fork() == 0: break
        while True: pass
        """,
        _CPU,
        _WALL,
        wall_seconds=1.0,
    ),
    attack(
        "loops of threads",
        Claim.TIME,
        "the processor time of threads counts together",
        """
        import threading
        def spin():
            while True: pass
        for _ in range(4): threading.Thread(target=spin).start()
        """,
        _CPU,
        cpu_seconds=0.3,
    ),
    attack(
        "stop",
        Claim.TIME,
        "time ends a process that has stopped itself",
        """
        import signal
        child = os.fork()
        if child == 0: os.kill(os.getpid(), signal.SIGSTOP)
        os.waitpid(child, 0)
        """,
        _WALL,
        wall_seconds=0.5,
    ),
    attack(
        "ignored processor limit",
        Claim.TIME,
        "a limit that was raised by the program itself still holds",
        """
        import resource, signal
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        for limit in ((hard, hard), (1, 1)):
            try: resource.setrlimit(resource.RLIMIT_CPU, limit)
            except (OSError, ValueError): pass
        while True: pass
        """,
        _CPU,
        cpu_seconds=0.3,
    ),
]

MEMORY = [
    attack(
        "heap",
        Claim.MEMORY,
        "it is killed, or refused more",
        """
        kept = []
        try:
            while True:
                kept.append(bytearray(b'x' * (1 << 24)))
                if len(kept) * 16 > HOST['most_mib']: escape('MiB', len(kept) * 16)
        except MemoryError: kept.clear(); print('held')
        """,
        Ending.MEMORY_LIMIT,
    ),
    attack(
        "heap of many processes",
        Claim.MEMORY,
        "the sum of all processes is limited",
        """
        import mmap, time
        counter = mmap.mmap(-1, 4096)  # shared with its children: a byte for each, which counts what it holds
        def hold(place):
            kept = []
            try:
                while len(kept) < 100:
                    kept.append(bytearray(b"x" * (1 << 20)))
                    counter[place] = len(kept)
                    if sum(counter[:16]) > HOST["most_mib"]: escape("MiB", sum(counter[:16]))
            except MemoryError: pass
            return kept
        places = {}
        for place in range(16):
            pid = os.fork()
            if pid == 0:
                kept = hold(place)
                time.sleep(1)
                os._exit(0)
            places[pid] = place
        for _ in places: counter[places[os.wait()[0]]] = 0
        print('held')
        """,
        Ending.MEMORY_LIMIT,
        Ending.CPU_LIMIT,
    ),
    attack(
        "memory files",
        Claim.MEMORY,
        "files in memory are refused or counted",
        """
        attempt('memfd_create', lambda: os.memfd_create('x'))
        for number in (447, 319):
            result, error = call(number, 0, 0)
            if result >= 0: escape(number)
        print('held')
        """,
    ),
    attack(
        "shared memory",
        Claim.MEMORY,
        "System V and POSIX shared memory are refused or counted",
        """
        if libc.shmget(0, 1 << 33, 0o1600) >= 0: escape('shmget')
        if libc.msgget(0, 0o1600) >= 0: escape('msgget')
        if libc.semget(0, 1, 0o1600) >= 0: escape('semget')
        print('held')
        """,
    ),
    attack(
        "pipes",
        Claim.MEMORY,
        "what pipes and socket pairs hold is bounded by how many there can be",
        """
        import socket
        held = 0
        pipes = []
        try:
            while True:
                pair = socket.socketpair()
                pair[0].setblocking(False); pipes.append(pair)
                try:
                    while True: held += pair[0].send(b'x' * 65536)
                except BlockingIOError: pass
                if held > HOST['most_mib'] << 20: escape('MiB', held >> 20); break
        except OSError: pass
        print('held')
        """,
        Ending.MEMORY_LIMIT,
    ),
    attack(
        "mappings",
        Claim.MEMORY,
        "shared mappings count as well",
        """
        import mmap
        kept = []
        try:
            while True:
                one = mmap.mmap(-1, 1 << 24); one[:] = b'x' * (1 << 24)
                kept.append(one)
                if len(kept) * 16 > HOST['most_mib']: escape('MiB', len(kept) * 16)
        except (OSError, MemoryError): print('held')
        """,
        Ending.MEMORY_LIMIT,
    ),
    attack(
        "deep recursion",
        Claim.MEMORY,
        "only the program itself breaks",
        """
        sys.setrecursionlimit(10**9)
        class A:
            def __repr__(self): return repr(self)
        def deep(n): return deep(n + 1)
        try: deep(0)
        except RecursionError: print('held')
        repr(A())
        """,
        Ending.SIGNALED,
        Ending.MEMORY_LIMIT,
        Ending.CPU_LIMIT,
        Ending.EXITED,
    ),
]

PROCESSES = [
    attack(
        "fork bomb",
        Claim.PROCESSES,
        "forking is refused, and the machine stays usable",
        """
        while True:
            try: os.fork()
            except OSError: pass
        """,
        _CPU,
        _WALL,
        Ending.MEMORY_LIMIT,
        cpu_seconds=0.5,
        wall_seconds=1.5,
    ),
    attack(
        "threads",
        Claim.PROCESSES,
        "threads count",
        """
        import threading, time
        for count in range(1000):
            try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            except RuntimeError: break
        if count > HOST['processes']: escape(count, 'threads')
        print('held', flush=True); os._exit(0)
        """,
    ),
    attack(
        "zombies",
        Claim.PROCESSES,
        "the dead that nobody asks for count, and are gone afterwards",
        """
        count = 0
        try:
            while count < 1000:
                if os.fork() == 0: os._exit(0)
                count += 1
        except OSError: pass
        if count > HOST['processes']: escape(count, 'zombies')
        print('held')
        """,
    ),
    attack(
        "raised limits",
        Claim.PROCESSES,
        "no hard limit can be raised",
        """
        import resource
        for name in dir(resource):
            if not name.startswith('RLIMIT_'): continue
            kind = getattr(resource, name)
            soft, hard = resource.getrlimit(kind)
            if hard != resource.RLIM_INFINITY:
                attempt(name, lambda: resource.setrlimit(kind, (hard + 10**6, hard + 10**6)))
                attempt(name, lambda: resource.setrlimit(kind, (-1, -1)))
        print('held')
        """,
    ),
]

OUTPUT = [
    attack(
        f"flood of {name}",
        Claim.OUTPUT,
        "it is ended, and what is kept is bounded",
        f"while True: os.write({descriptor}, b'x' * 65536)",
        Ending.OUTPUT_LIMIT,
    )
    for name, descriptor in (("standard output", 1), ("standard error", 2))
] + [
    attack(
        "hole in the output",
        Claim.OUTPUT,
        "output that is longer than it holds is ended as well",
        """
        for size in (1 << 40, 1 << 24):
            try: os.ftruncate(1, size)
            except OSError: pass
        os.lseek(1, 1 << 24, 0)
        os.write(1, b'x')
        """,
        Ending.OUTPUT_LIMIT,
        Ending.SIGNALED,
        Ending.EXITED,
    ),
]

DISK = [
    attack(
        "big files",
        Claim.DISK,
        "the box is full before the machine is",
        """
        written = 0
        try:
            for number in range(1000):
                with open(f'f{number}', 'wb') as file:
                    file.write(b'x' * (1 << 20)); written += 1
                if written > HOST['most_mib']: escape('MiB', written); break
        except OSError: pass
        print('held')
        """,
        Ending.OUTPUT_LIMIT,
        Ending.MEMORY_LIMIT,
    ),
    attack(
        "shared memory folder",
        Claim.DISK,
        "it is the box, or there is none",
        """
        written = 0
        try:
            for number in range(1000):
                with open(f'/dev/shm/f{number}', 'wb') as file: file.write(b'x' * (1 << 20)); written += 1
                if written > HOST['most_mib']: escape('MiB', written); break
        except OSError: pass
        print('held')
        """,
        Ending.OUTPUT_LIMIT,
        Ending.MEMORY_LIMIT,
    ),
    attack(
        "one huge file",
        Claim.DISK,
        "no file is larger than allowed",
        """
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open('big', 'wb') as file: attempt('truncate', lambda: file.truncate(1 << 40))
        print('held')
        """,
        Ending.OUTPUT_LIMIT,
    ),
    attack(
        "many files",
        Claim.FILES,
        "their number is limited",
        """
        import time
        count = 0
        try:
            while count < 20000: open(f'i{count}', 'w').close(); count += 1
        except OSError: print('held'); raise SystemExit
        escape(count, 'files')
        """,
        Ending.OUTPUT_LIMIT,
    ),
    attack(
        "deep folders",
        Claim.DISK,
        "no depth keeps the box from being emptied",
        """
        try:
            for _ in range(100000):
                os.mkdir('d'); os.chdir('d')
        except OSError: pass
        print('held')
        """,
        Ending.OUTPUT_LIMIT,
        Ending.CPU_LIMIT,
        Ending.MEMORY_LIMIT,
        cpu_seconds=1.0,
    ),
]

READING = [
    attack(
        "files of the host",
        Claim.READING,
        "none can be read",
        """
        places = [
            HOST["secret"], "/etc/shadow", "/root/.profile", "/home", "/srv", "/opt", "/var/log", "/run",
            "/boot", "/sys/fs/cgroup", "/proc/1/environ", "/proc/1/root", "/proc/kcore", "/proc/self/environ",
            "/proc/self/maps", f"/proc/{HOST['runner']}/environ", f"/proc/{HOST['runner']}/cmdline",
            f"/proc/{HOST['runner']}/root/etc/shadow", f"/proc/self/root{HOST['secret']}", "/dev/mem", "/dev/kmsg",
        ]
        def look(path):
            if os.path.isdir(path): return os.listdir(path) or 1 / 0
            return open(path, "rb").read(20) or 1 / 0
        for path in places:
            try: attempt(path, lambda: look(path))
            except ZeroDivisionError: pass  # empty
        print('held')
        """,
    ),
    attack(
        "by a link",
        Claim.READING,
        "a link leads nowhere",
        """
        os.symlink(HOST['secret'], 'link')
        attempt('symlink', lambda: open('link').read())
        attempt('hard link', lambda: os.link(HOST['secret'], 'hard') or open('hard').read())
        os.symlink('/', 'root')
        attempt('root', lambda: open('root' + HOST['secret']).read())
        attempt('up', lambda: open('../' * 30 + HOST['secret'][1:]).read())
        print('held')
        """,
    ),
    attack(
        "environment",
        Claim.READING,
        "it has none of the runner's",
        """
        if 'SANDBOX_CHECK' in os.environ: escape('environment')
        print(sorted(os.environ.items()))
        print('held')
        """,
    ),
    attack(
        "descriptors",
        Claim.READING,
        "none but its own three are open",
        """
        for number in range(3, 4096):
            try: mode = os.fstat(number).st_mode
            except OSError: continue
            escape('descriptor', number, oct(mode))
        print('held')
        """,
    ),
    attack(
        "memory of the sandbox",
        Claim.READING,
        "what else is in the interpreter is nobody's secret",
        """
        import gc
        found = [one for one in gc.get_objects() if isinstance(one, (dict, list, tuple))]
        text = repr([list(map(type, one))[:5] for one in found])
        for one in found:
            for part in (one.values() if isinstance(one, dict) else one):
                if isinstance(part, (str, bytes)) and len(part) == 32: print(part)
        print('held')
        """,
        output_bytes=4 * MIB,
    ),
    attack(
        "existence",
        Claim.NAMES,
        "a file of the host cannot even be seen",
        """
        attempt('stat', lambda: os.stat(HOST['secret']))
        attempt('folder', lambda: os.stat(HOST['folder']))
        attempt('access', lambda: os.access(HOST['secret'], 0) or int('no'))
        print('held')
        """,
    ),
]

WRITING = [
    attack(
        "files of the host",
        Claim.WRITING,
        "none can be made or changed",
        """
        def write(path):
            with open(path, 'ab') as file: return file.write(b'x')
        for path in (
            HOST['secret'], HOST['folder'] + '/x', '/x', '/usr/x', '/usr/bin/env', '/etc/x',
            '/etc/passwd', '/dev/x', '/dev/sda', '/dev/vda', '/proc/x', '/proc/self/oom_score_adj',
            '/lib/x', '/var/x', '/sys/x'
        ):
            attempt(path, lambda: write(path))
        for path in (HOST['secret'], '/etc/passwd', '/usr/bin/env', '/usr'):
            attempt('chmod ' + path, lambda: os.chmod(path, 0o777))
            attempt('chown ' + path, lambda: os.chown(path, os.getuid(), os.getgid()))
            attempt('utime ' + path, lambda: os.utime(path))
            attempt('truncate ' + path, lambda: os.truncate(path, 0))
            attempt('rename ' + path, lambda: os.rename(path, path + '.old'))
            attempt('setxattr ' + path, lambda: os.setxattr(path, 'user.x', b'x'))
        attempt('unlink', lambda: os.unlink(HOST['secret']))
        libc.mmap.restype = ctypes.c_void_p  # a path at an address whose lower half is zero
        place = libc.mmap(ctypes.c_void_p(1 << 32), ctypes.c_size_t(4096), 3, 0x100022, -1, ctypes.c_long(0))
        if place == 1 << 32:
            path = HOST['secret'].encode() + b'\\0'
            ctypes.memmove(place, path, len(path))
            if call(280, -100, place, 0, 0)[0] == 0: escape('utimensat')
        print('held')
        """,
    ),
    attack(
        "devices",
        Claim.WRITING,
        "no device can be made, and none but the harmless ones is there",
        """
        import stat
        attempt('mknod', lambda: os.mknod('device', stat.S_IFBLK | 0o600, os.makedev(8, 0)))
        attempt('mknod', lambda: os.mknod('device', stat.S_IFCHR | 0o600, os.makedev(1, 1)))
        attempt('tty', lambda: open('/dev/tty'))
        attempt('ptmx', lambda: open('/dev/ptmx'))
        attempt('fuse', lambda: open('/dev/fuse'))
        attempt('kvm', lambda: open('/dev/kvm'))
        print('held')
        """,
    ),
    attack(
        "terminal",
        Claim.WRITING,
        "nothing can be typed into a terminal of the host",
        """
        import fcntl
        for descriptor in range(3):
            attempt('TIOCSTI', lambda: fcntl.ioctl(descriptor, 0x5412, b'x'))
            attempt('TIOCLINUX', lambda: fcntl.ioctl(descriptor, 0x541C, b'\\x02'))
        print('held')
        """,
    ),
    attack(
        "clocks",
        Claim.WRITING,
        "the time and the host's name cannot be set",
        """
        import socket, time
        attempt('clock', lambda: time.clock_settime(time.CLOCK_REALTIME, 0))
        if libc.settimeofday(bytes(16), None) == 0: escape('settimeofday')
        attempt('name', lambda: socket.sethostname('pwned'))
        print('held')
        """,
    ),
]

PROCESS_WALL = [
    attack(
        "signals",
        Claim.PROCESS_WALL,
        "none reaches a process outside",
        """
        import signal
        parent = os.getppid() if os.getpid() > 2 else 0  # the first process of a namespace is its own
        for pid in {HOST['victim'], HOST['runner'], parent or HOST['victim']}:
            for number in (0, 9, 19):
                attempt(f'kill {pid} {number}', lambda: os.kill(pid, number))
            attempt('group', lambda: os.killpg(pid, 9))
            attempt('pidfd', lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 9))
            if call(129, pid, 9, 0)[0] == 0: escape('rt_sigqueueinfo')
            if call(200, pid, 9)[0] == 0: escape('tkill')
            if call(234, pid, pid, 9)[0] == 0: escape('tgkill')
        import fcntl
        read, write = os.pipe()
        try:
            fcntl.fcntl(read, fcntl.F_SETOWN, HOST['victim']); fcntl.fcntl(read, 10, 9)
            fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC); os.write(write, b'x')
        except OSError: pass
        print('held')
        """,
    ),
    attack(
        "kill itself",
        Claim.PROCESS_WALL,
        "it cannot: a run that was killed is never its program's doing",
        """
        import signal, time
        attempt('kill', lambda: os.kill(os.getpid(), 9) if os.getpid() > 2 else int('its own namespace'))
        libc.prctl(22, 1, 0, 0, 0)  # strict seccomp, which kills
        event = (ctypes.c_int * 16)(0, 0, 9, 0)  # a timer's event: SIGKILL
        timer = ctypes.c_int(0)
        if call(222, 1, ctypes.addressof(event), ctypes.addressof(timer))[0] == 0:
            soon = (ctypes.c_long * 4)(0, 0, 0, 1000)
            call(223, timer.value, 0, ctypes.addressof(soon), 0)
        child, _ = call(56, 9, 0, 0, 0, 0)  # a child whose end sends SIGKILL
        if child == 0: os._exit(0)
        time.sleep(0.1)
        print('held')
        """,
        Ending.SIGNALED,
    ),
    attack(
        "kill everybody",
        Claim.PROCESS_WALL,
        "its own processes at most",
        """
        child = os.fork()
        if child == 0:
            import time
            time.sleep(20)
            os._exit(0)
        try: os.kill(-1, 9)
        except OSError: pass
        print('held')
        """,
    ),
    attack(
        "tracing",
        Claim.PROCESS_WALL,
        "no process outside can be traced or read",
        """
        class Vector(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
        buffer = ctypes.create_string_buffer(8)
        for pid in {HOST['victim'], HOST['runner'], os.getppid(), *range(2, 40)} - {os.getpid(), 0}:
            if libc.ptrace(16, pid, 0, 0) == 0: escape('attached to', pid)
            here, there = Vector(ctypes.addressof(buffer), 8), Vector(0x400000, 8)
            if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0: escape('read', pid)
            if libc.process_vm_writev(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0: escape('wrote', pid)
            if call(438, pid, 0, 0)[0] >= 0: escape('pidfd_getfd')
            if call(312, os.getpid(), pid, 0, 0, 0)[0] >= 0: escape('kcmp')
        print('held')
        """,
    ),
    attack(
        "limits of others",
        Claim.PROCESS_WALL,
        "no process outside can be limited, slowed or moved",
        """
        import resource
        for pid in (HOST['victim'], HOST['runner'], os.getppid() or HOST['victim']):
            attempt('prlimit', lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)))
            attempt('nice', lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
            attempt('cores', lambda: os.sched_setaffinity(pid, {0}))
            attempt('scheduler', lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
            if call(251, 1, pid, 3 << 13)[0] == 0: escape('ioprio')
        print('held')
        """,
    ),
]

NETWORK = [
    attack(
        "sockets",
        Claim.NETWORK,
        "nothing of the host can be reached, and nothing beyond it",
        """
        import socket
        TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
        attempt('port', lambda: socket.create_connection(('127.0.0.1', HOST['port']), 1))
        attempt('outside', lambda: socket.create_connection(('1.1.1.1', 53), 1))
        attempt('IPv6', lambda: socket.create_connection(('::1', HOST['port']), 1))
        datagrams = ('127.0.0.1', HOST['datagram_port'])
        attempt('datagram', lambda: socket.socket(socket.AF_INET, UDP).sendto(b'x', datagrams))
        attempt('names', lambda: socket.getaddrinfo('example.com', 80))
        attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect(HOST['abstract']))
        attempt('named', lambda: socket.socket(socket.AF_UNIX, UDP).sendto(b'x', HOST['named']))
        print('held')
        """,
    ),
    attack(
        "families",
        Claim.NETWORK,
        "no kind of socket can be made but pairs",
        """
        import socket
        for family in range(1, 50):
            for kind in (1, 2, 3, 5):
                attempt(f'socket {family} {kind}', lambda: socket.socket(family, kind))
        print('held')
        """,
    ),
    attack(
        "pair",
        Claim.NETWORK,
        "half of a pair reaches nobody but the other half",
        """
        import socket
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            try: ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
            except OSError: continue
            for address in (HOST['named'], HOST['abstract']):
                try: ours.sendto(b'x', address); ours.sendmsg([b'x'], [], 0, address)  # some kinds ignore the address
                except OSError: pass
                attempt('connect', lambda: ours.connect(address))
                attempt('bind', lambda: ours.bind('box.socket'))
        print('held')
        """,
    ),
]

PRIVILEGES = [
    attack(
        "users",
        Claim.PRIVILEGES,
        "it is not root, and cannot become so",
        """
        if 0 in os.getresuid() + os.getresgid() + tuple(os.getgroups()): escape('root')
        attempt('setuid', lambda: os.setuid(0))
        attempt('setgid', lambda: os.setgid(0))
        attempt('groups', lambda: os.setgroups([0]))
        attempt('chroot', lambda: os.chroot('.'))
        attempt('nice', lambda: os.nice(-10))
        attempt('realtime', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
        print('held')
        """,
    ),
    attack(
        "capabilities",
        Claim.PRIVILEGES,
        "it has none, and can get none",
        """
        header = (0x20080522).to_bytes(4, 'little') + bytes(4)
        data = ctypes.create_string_buffer(24)
        if libc.capget(header, data) == 0 and any(data.raw): escape('capabilities', data.raw.hex())
        if libc.prctl(39, 0, 0, 0, 0) != 1: escape('new privileges may be had')
        if libc.prctl(21, 0, 0, 0, 0) != 2: escape('no seccomp filter')
        print('held')
        """,
    ),
    attack(
        "namespaces and mounts",
        Claim.PRIVILEGES,
        "no namespace can be made, and nothing mounted",
        """
        for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x10020000):
            if libc.unshare(flag) == 0: escape('unshare', hex(flag))
            pid, _ = call(56, flag | 17, 0, 0, 0, 0)
            if pid == 0: os._exit(0)
            if pid > 0: escape('clone', hex(flag))
        if libc.mount(b'x', b'.', b'tmpfs', 0, None) == 0: escape('mount')
        if libc.umount2(b'/', 2) == 0: escape('umount')
        for number in (428, 429, 430, 431, 432, 433, 442, 155, 308):
            result, error = call(number, 0, 0, 0, 0, 0)
            if result >= 0: escape('call', number)
        print('held')
        """,
    ),
    attack(
        "setuid programs",
        Claim.PRIVILEGES,
        "they give nothing",
        """
        import subprocess
        for command in (
            ['/usr/bin/su', '-c', 'id'], ['/usr/bin/newgrp'], ['/usr/bin/mount'], ['/usr/bin/passwd', '-S']
        ):
            try: done = subprocess.run(command, capture_output=True, timeout=3, stdin=subprocess.DEVNULL)
            except (OSError, subprocess.SubprocessError): continue
            if b'uid=0' in done.stdout: escape('root by', command)
        os.system('id -u > id'); user = open('id').read().strip()
        if user == '0': escape('root')
        print('held')
        """,
    ),
]

KERNEL = [
    attack(
        "rare calls",
        Claim.KERNEL,
        "they do not exist for it",
        """
        calls = dict(
            io_uring_setup=425, io_uring_enter=426, bpf=321, userfaultfd=323, keyctl=250,
            add_key=248, request_key=249, perf_event_open=298, open_by_handle_at=304,
            name_to_handle_at=303, kexec_load=246, init_module=175, finit_module=313,
            delete_module=176, reboot=169, swapon=167, personality=135, ptrace=101,
            process_vm_readv=310, process_vm_writev=311, process_madvise=440, move_pages=279,
            migrate_pages=256, mbind=237, set_mempolicy=238, acct=163, quotactl=179, syslog=103,
            iopl=172, ioperm=173, modify_ldt=154, lookup_dcookie=212, vmsplice=278,
            fanotify_init=300, inotify_init1=294, mq_open=240, memfd_secret=447, pidfd_getfd=438,
            setns=308, seccomp=317, landlock_create_ruleset=444, clone3=435, execveat=322,
            io_setup=206, signalfd4=289
        )
        for name, number in calls.items():
            result, error = call(number, 0, 0, 0, 0, 0)
            if result >= 0 or error not in (1, 38): escape(name, result, error)
        print('held')
        """,
    ),
    attack(
        "other numbers",
        Claim.KERNEL,
        "the numbers of the x32 interface do not exist either",
        """
        for number in (0, 1, 39, 57, 101, 425, 512, 513, 520, 534, 539):
            result, error = call(0x40000000 | number, 0, 0, 0, 0, 0)
            if result >= 0 or error not in (1, 38): escape(number, result, error)
        print('held')
        """,
    ),
    attack(
        "calls of another architecture",
        Claim.KERNEL,
        "a call by the 32-bit gate ends the process",
        """
        import mmap
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(bytes.fromhex('b814000000cd80c3'))
        gate = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        got = gate()
        if got > 0: escape('getpid by int 0x80', got)
        print('held')
        """,
        Ending.SIGNALED,
    ),
    attack(
        "crash",
        Claim.KERNEL,
        "only the program itself breaks, and leaves no core",
        "ctypes.string_at(0)",
        Ending.SIGNALED,
    ),
]

LEFTOVERS = [
    attack(
        "daemon",
        Claim.LEFTOVERS,
        "it dies with its run",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                import signal, time
                for number in range(1, 32):
                    try: signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError): pass
                while True: time.sleep(0.01)
            os._exit(0)
        os.wait(); print('held', flush=True); os._exit(0)
        """,
    ),
    attack(
        "late writers",
        Claim.LEFTOVERS,
        "nobody writes once the output has been read",
        """
        for _ in range(8):
            if os.fork() == 0:
                os.setsid()
                while True: os.write(1, b'.')
        print('held', flush=True); os._exit(0)
        """,
        Ending.OUTPUT_LIMIT,
    ),
    attack(
        "children of children",
        Claim.LEFTOVERS,
        "a tree that grows while it is killed is killed whole",
        """
        def grow(depth):
            while True:
                try:
                    if os.fork() == 0:
                        os.setsid()
                        return grow(depth + 1)
                except OSError: pass
                if depth and os.getpid() % 3: os._exit(0)
                if depth == 0: break
        grow(0)
        print('held', flush=True)
        """,
        _CPU,
        _WALL,
        wall_seconds=2.0,
    ),
]

ATTACKS: list[Case] = [
    *TIME,
    *MEMORY,
    *PROCESSES,
    *OUTPUT,
    *DISK,
    *READING,
    *WRITING,
    *PROCESS_WALL,
    *NETWORK,
    *PRIVILEGES,
    *KERNEL,
    *LEFTOVERS,
]
