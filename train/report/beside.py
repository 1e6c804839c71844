"""Which of the paper's tables belongs beside a run, and what differs nevertheless."""

from __future__ import annotations

from edgepain.train.paper import TABLE_5, TABLE_6, TABLE_7, PrintedTable
from edgepain.train.report.source import ReportableRun

_PAIN_WORDS = ("pain", "noci")


def printed_table(run: ReportableRun) -> tuple[PrintedTable | None, str]:
    """The paper's table for this dataset and protocol, or None and why it has none."""
    config = run.config
    if run.synthetic:
        return None, "These people are simulated (synthetic data): the paper has no figures to set beside them."
    if config.epoch_choice == "test-fold":
        return None, "The epoch was chosen on the test fold, which the paper does not do: its figures are left out."
    modalities = {str(m) for m in config.modalities}
    if config.dataset == "biovid" and run.labels == ("BL1", "PA4") and modalities == {"eda", "ecg"}:
        if config.protocol in ("10-fold", "loso"):
            return (TABLE_5 if config.protocol == "10-fold" else TABLE_6), ""
        return None, f"The paper has no figures for BioVid under {config.protocol}: only for 10-fold and loso."
    if config.dataset == "ai4pain" and run.labels == ("no pain", "low", "high") and modalities == {"eda", "bvp"}:
        if (config.protocol, config.holdout_rule) == ("holdout", "validation"):
            return TABLE_7, ""
        return None, "The paper has figures for AI4PAIN on the official hold-out (validation) only."
    what = f"{config.dataset}, {' / '.join(run.labels)} from {' + '.join(config.modalities)}"
    return None, f"The paper has no figures for {what}."


def departures(run: ReportableRun, table: PrintedTable) -> list[str]:
    """Settings of a run that differ from what the paper prints."""
    config, train = run.config, run.config.train
    found = []
    if table.subjects is not None and len(config.subjects) != table.subjects:
        found.append(f"{len(config.subjects)} subjects instead of {table.subjects}")
    if run.scaling != "subject":
        found.append(f"{run.scaling} scaling instead of scaling by subject")
    if (train.window.seconds, train.window.steps) != (5.5, 138):
        found.append(f"a window of {train.window.seconds:g} s and {train.window.steps} points instead of 5.5 s and 138")
    if train.batch_size != 128:
        found.append(f"batches of {train.batch_size} instead of 128")
    epochs = tuple(getattr(train, kind).epochs for kind in ("fcn", "alstm", "transformer", "crossmod"))
    if epochs != (900, 500, 100, 50) or train.stages:
        found.append("other epochs than Table 4 (see the stages)")
    if train.limit_iqr is not None:
        found.append(f"scaled values end at {train.limit_iqr:g} inter-quartile ranges")
    if train.modality_dropout:
        found.append(f"modality dropout {train.modality_dropout:g}")
    if train.calibration_share:
        found.append(f"{train.calibration_share:.0%} of the training subjects kept for the temperature")
    if config.size != "full":
        found.append(f"a smaller network (size {config.size})")
    if config.teacher:
        found.append("distilled from another network")
    if train.fusion == "sequence":
        found.append("fusion of sequences (the paper's text fuses one vector a modality)")
    return found


def not_pain(run: ReportableRun) -> str:
    """A warning where the classes are not of pain, else an empty text."""
    if run.config.dataset in ("biovid", "ai4pain"):
        return ""
    if any(word in label.lower() for label in run.labels for word in _PAIN_WORDS):
        return ""
    classes = " and ".join(repr(label) for label in run.labels)
    return (
        f"The classes {classes} do not name pain. These results say how well the signals tell them apart; they say "
        "nothing about pain."
    )
