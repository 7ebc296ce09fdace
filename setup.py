"""Only what setup.cfg cannot say: the compiled kernel, optional and on the limited API (one wheel for every Python)."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "edge_agent.signal._kernel",
            sources=[f"edge_agent/signal/_{name}.c" for name in ("kernel", "window", "measure")],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=["-O3", "-fno-math-errno", "-ffp-contract=off"],
            py_limited_api=True,
            optional=True,
        )
    ]
)
