"""Run every other path by which Linux copies, or does not copy, on write: import all modules."""

import importlib
import pkgutil

from cowtrace.workloads.workload import WORKLOADS

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)  # adds its workloads to WORKLOADS

NAMES = tuple(
    name for name, workload in WORKLOADS.items() if workload.act.__module__.startswith(__name__)
)
