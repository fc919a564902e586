"""Name the code at addresses of traced processes, in a process without privileges.

Files, perf maps and stacks of traced processes are hostile: a crafted one can crash or stop the
library that reads it. So a child process reads them, which can do nothing but that: it has no
capabilities, opens no file, and gets each as a descriptor. `cowtrace.tracer.symbols` is its parent.
"""
