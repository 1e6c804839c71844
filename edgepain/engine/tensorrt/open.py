"""From a folder of engines to the one that fits this device, loaded and checked."""

from __future__ import annotations

import os
from pathlib import Path

from edgepain.bundle import Bundle, Precision, engines_folder
from edgepain.engine.folder import EngineError
from edgepain.engine.golden import compare_golden
from edgepain.engine.tensorrt.driver import Driver
from edgepain.engine.tensorrt.library import load_tensorrt, parse_version
from edgepain.engine.tensorrt.plan import best, list_plans, misfit
from edgepain.engine.tensorrt.recipe import read_recipe
from edgepain.engine.tensorrt.runner import TensorRtEngine
from edgepain.errors import ConfigError


def has_engines(bundle: Bundle, folder: Path | None = None) -> bool:
    """Whether anything was built for this bundle."""
    try:
        return any(name.endswith(".json") for name in os.listdir(folder or engines_folder(bundle.manifest.sha256)))
    except (ConfigError, OSError):  # A service may have no home, or must not look into it.
        return False


def open_tensorrt(bundle: Bundle, precision: Precision | None = None, folder: Path | None = None) -> TensorRtEngine:
    """The fastest engine that fits, on the GPU; precision `int8` takes only such a one.

    folder: by default that of this user (`engines_folder`), never one of the bundle.

    Raises EngineError where none fits, the plan is damaged or others may write to it, NoDriverError, EdgepainError
    where TensorRT is no good, VerificationError where the engine does not answer the golden windows as it should.
    """
    folder = folder or engines_folder(bundle.manifest.sha256)
    again = f"run: edgepain build {bundle}"
    recipe = read_recipe(bundle)
    plans, complaints = list_plans(folder)
    plans = [plan for plan in plans if precision in (None, plan.facts.precision)]
    if not plans:
        reason = complaints[0] if complaints else f"no {precision or ''} engine in {folder}; {again}".replace("  ", " ")
        raise EngineError(reason)
    driver = Driver()
    trt, tensorrt = load_tensorrt(driver)
    version = parse_version(tensorrt)
    reasons = {plan.path: misfit(plan, bundle, recipe, driver.device, tensorrt, version) for plan in plans}
    fitting = [plan for plan in plans if not reasons[plan.path]]
    if not fitting:
        path, reason = next(iter(reasons.items()))
        raise EngineError(f"{path.name} was {reason}; {again}")
    plan = best(fitting)
    graph = recipe.variant(version).graph(plan.facts.precision)
    engine = TensorRtEngine(trt, tensorrt, driver, plan.read(), bundle, graph)
    golden = bundle.golden()
    try:
        found = engine.predict(golden.windows)
        compare_golden(
            found, golden.logits[graph.golden], graph.golden_tolerance, engine.description, f"{bundle}/{graph.file}"
        )
    except BaseException:
        engine.close()
        raise
    return engine
