"""The backend of the blocks' arithmetic in use, chosen when this is imported: the fastest that runs here."""

import os

from xtrace_core.arithmetic.backends import thread_count
from xtrace_core.lattice.compiled import KERNELS, CompiledRing
from xtrace_core.lattice.interface import Ring
from xtrace_core.lattice.portable import PortableRing

ring: Ring = CompiledRing(KERNELS[0], thread_count(os.environ)) if KERNELS else PortableRing()
