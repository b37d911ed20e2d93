"""``snellius calibrate``: from clicks and tape to a certified calibration."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import calibrate_capture, calibrate_lens, calibrate_page, calibrate_verify
from edge.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from calibration import Calibration, Contradiction, Solution
    from calibration.still import Still
    from calibration.tape import TapeCheck

app = typer.Typer(help="From clicks and tape to a certified calibration.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a report.")]


@app.callback()
def calibrate() -> None:
    """From clicks and tape to a certified calibration.

    Example: snellius calibrate solve --survey survey.csv --site site.toml --image-size 960x540 --out cal.json
    """


@app.command("solve")
def solve_command(
    survey: Annotated[Path, typer.Option(help="Surveyed points: CSV with name,u_px,v_px,x_m,y_m[,sigma_px,sigma_m].")],
    site: Annotated[Path, typer.Option(help="The place: TOML with [site], [zone] and [direction].")],
    image_size: Annotated[str, typer.Option(help="Size of the picture that was clicked in, such as 960x540.")],
    out: Annotated[Path, typer.Option(help="Where to write the calibration.")],
    drop: Annotated[list[str] | None, typer.Option(help="Leave this point out on purpose; may be repeated.")] = None,
    still: Annotated[
        Path | None,
        typer.Option(help="The picture that was clicked in: its corners tell later whether the camera has turned."),
    ] = None,
    lens: Annotated[
        Path | None, typer.Option(help="The lens of this camera, found by 'snellius calibrate lens'.")
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option(help="Points along straight kerbs or edges, which tell the lens: CSV with line,u_px,v_px."),
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Solve a survey and certify it, or say which rows are wrong.

    Exit code 0: written. 1: refused, nothing written. 2: a file or option cannot be used.

    Example: snellius calibrate solve --survey survey.csv --site site.toml --image-size 960x540 --out cal.json
    """
    from calibration import Contradiction, Verdict, parse_image_size, read_site, read_survey, solve
    from calibration.drift import read_reference_corners
    from calibration.lens import Lens
    from calibration.straight import read_lines

    points, place, size_px = read_survey(survey), read_site(site), parse_image_size(image_size)
    reference = None if still is None else read_reference_corners(still, size_px)
    known_lens = None if lens is None else Lens.load(lens)
    straight = None if lines is None else read_lines(lines)
    try:
        solution = solve(points, place, size_px, drop or (), lens=known_lens, lines=straight)
    except Contradiction as contradiction:
        if as_json:
            typer.echo(json.dumps(contradicted(contradiction), indent=2))
        else:
            typer.echo(f"refuse: {contradiction}\nNothing was written.")
        raise typer.Exit(1) from None
    refused = solution.verdict is Verdict.REFUSE
    calibration = None if refused else solution.certified(datetime.now(timezone.utc), reference)
    if calibration is not None:
        calibration.save(out)
    if as_json:
        certificate = {} if calibration is None else {"id": calibration.id, "file": str(out)}
        typer.echo(json.dumps({**solution.summary(), **certificate}, indent=2, allow_nan=False))
    else:
        _print_solution(solution, calibration, out)
    if refused:
        raise typer.Exit(1)


@app.command("check")
def check_command(
    calibration: Annotated[Path, typer.Option(help="The calibration to report on.")],
    distances: Annotated[
        Path | None, typer.Option(help="Taped distances: CSV with u1_px,v1_px,u2_px,v2_px,distance_m[,sigma_m].")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the whole report as one HTML page, to keep or to print.")
    ] = None,
    still: Annotated[
        Path | None, typer.Option(help="A picture of the street to draw on in the report; it becomes part of the page.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Report on a calibration: what it is worth, how old it is, whether taped distances agree.

    Exit code 0: good or usable. 1: refused, or expired. 2: a file cannot be used.

    Example: snellius calibrate check --calibration cal.json --distances tape.csv --report report.html
    """
    from calibration import Calibration, Verdict, read_distances
    from calibration.check_report import report_html
    from calibration.tape import compare_with_tape
    from edge.cli.files import written_whole

    now = datetime.now(timezone.utc)
    certificate = Calibration.load(calibration)
    tape = None if distances is None else compare_with_tape(certificate.plane, read_distances(distances))
    found = checked(certificate, tape, now)
    verdict = Verdict(found["verdict"])
    picture = None if still is None else street_picture(still, certificate, now)
    if report is None and still is not None:
        raise BadInput("--still: expected --report OUT.html as well (the picture is drawn on there)")
    if report is not None:
        page = report_html(certificate, verdict=verdict, reasons=found["reasons"], now=now, tape=tape, still=picture)
        with written_whole(report, is_private=picture is not None) as file:
            file.write_text(page, encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print_check(certificate, tape, found)
        if report is not None:
            typer.echo(f"Written: {report}")
    if verdict is Verdict.REFUSE:
        raise typer.Exit(1)


app.command("capture")(calibrate_capture.capture)
app.command("lens")(calibrate_lens.lens)
app.command("page")(calibrate_page.page)
app.command("verify")(calibrate_verify.verify)


def street_picture(path: Path, certificate: Calibration, now: datetime) -> Still:
    """A still to draw on.

    Raises:
        BadInput: It is past its date, or of another size than the calibration.
        CalibrationError: It is no picture.
    """
    from calibration.still import Still

    picture = Still.load(path)
    if picture.is_expired(now):
        raise BadInput(
            f"{path}: expired on {picture.expires:%Y-%m-%d}; delete it and take a new one (snellius calibrate capture)"
        )
    if picture.size_px != certificate.image_size_px:
        want, got = ("x".join(map(str, size)) for size in (certificate.image_size_px, picture.size_px))
        raise BadInput(f"{path}: expected the {want} picture that was calibrated, found {got}")
    return picture


def contradicted(contradiction: Contradiction) -> dict[str, Any]:
    """The keys of ``calibrate solve --json`` when no camera fits at all: nothing is known but the doubt."""
    camera = dict.fromkeys(
        f"{name}{part}" for name in ("focal_px", "height_m", "tilt_deg", "k1") for part in ("", "_sigma")
    )
    return {
        "verdict": "refuse",
        "reasons": [str(contradiction)],
        "points": 0,
        "rejected": list(contradiction.names),
        "rms_px": None,
        "camera": camera,
        "u_rel_speed": {"median": None, "worst": None},
        "px_per_m": None,
    }


def checked(certificate: Calibration, tape: TapeCheck | None, now: datetime) -> dict[str, Any]:
    """What ``calibrate check --json`` prints.

    Args:
        certificate: The calibration.
        tape: Its comparison with taped distances, if any were taped.
        now: The instant of the check, with time zone.
    """
    from calibration.quality import Finding, Verdict, lowered, privacy_warning

    findings = [] if tape is None else tape.findings
    if certificate.is_expired(now):
        findings.append(Finding(Verdict.REFUSE, f"expired on {certificate.expires:%Y-%m-%d}: survey the site again"))
    summary = certificate.summary()
    verdict, reasons = lowered(certificate.verdict, list(certificate.reasons), findings)
    report: dict[str, Any] = {
        **summary,
        "verdict": verdict.value,
        "reasons": reasons,
        "id": certificate.id,
        "created": certificate.created.isoformat(),
        "expires": certificate.expires.isoformat(),
        "age_days": (now - certificate.created).days,
        "solver": certificate.solver,
        "lens": certificate.lens_id,
        "dropped": list(certificate.dropped),
        "privacy": privacy_warning(summary["px_per_m"]),
    }
    if tape is not None:
        report["distances"] = {
            "n": len(tape.tape),
            "systematic": tape.systematic,
            "mean": float(tape.relative_errors.mean()),
            "measured_m": tape.measured_m.tolist(),
            "sigma_m": tape.sigma_m.tolist(),
        }
    return report


def _print_solution(solution: Solution, calibration: Calibration | None, out: Path) -> None:
    from rich.console import Console

    from calibration.quality import verdict_sentence

    console = Console(highlight=False, soft_wrap=True)
    summary = solution.summary()
    console.print(verdict_sentence(solution.verdict, solution.quality.u_rel_worst), style="bold", markup=False)
    _print_reasons(console, summary["reasons"])
    console.print(_residual_table(solution))
    _print_camera(console, summary)
    if solution.dropped:
        console.print(f"Left out on purpose: {', '.join(solution.dropped)}", markup=False)
    if calibration is not None:
        console.print(f"\nWritten: {out} ({calibration.id}, valid until {calibration.expires:%Y-%m-%d})", markup=False)
        console.print(f"Next: snellius replay CLIP --calibration {out}", markup=False)
    elif solution.rejected:
        leave_out = " ".join(f"--drop {name}" for name in solution.rejected)
        console.print("\nNothing was written. The table shows what fits without the suspects.", markup=False)
        console.print(f"Next: correct the survey, or leave points out on purpose: {leave_out}", markup=False)
    else:
        console.print("\nNothing was written. Next: see the reasons above.", markup=False)


def _print_check(certificate: Calibration, tape: TapeCheck | None, report: Mapping[str, Any]) -> None:
    from rich.console import Console

    from calibration.quality import Verdict, verdict_sentence

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{certificate.id} for {certificate.site.id}", style="bold", markup=False)
    sentence = verdict_sentence(Verdict(report["verdict"]), certificate.quality.u_rel_worst)
    console.print(sentence, style="bold", markup=False)
    _print_reasons(console, report["reasons"])
    console.print(_certificate_table(certificate))
    if tape is not None:
        console.print(_tape_table(tape))
    _print_camera(console, report)
    width, height = certificate.image_size_px
    console.print(
        f"Solved {certificate.created:%Y-%m-%d} ({report['age_days']} days ago), valid until"
        f" {certificate.expires:%Y-%m-%d}, for pictures of {width}x{height}",
        markup=False,
    )


def _print_reasons(console: Any, reasons: list[str]) -> None:
    for reason in reasons:
        console.print(f"  - {reason}", markup=False)


def _print_camera(console: Any, summary: Mapping[str, Any]) -> None:
    from calibration.quality import privacy_warning

    camera, u_rel = summary["camera"], summary["u_rel_speed"]
    lens = "not told by the points" if camera["k1"] is None else f"k1 {camera['k1']:.3f} ± {2 * camera['k1_sigma']:.3f}"
    console.print(
        f"Camera: height {camera['height_m']:.2f} ± {2 * camera['height_m_sigma']:.2f} m,"
        f" tilt {camera['tilt_deg']:.2f} ± {2 * camera['tilt_deg_sigma']:.2f}°,"
        f" focal length {camera['focal_px']:.0f} ± {2 * camera['focal_px_sigma']:.0f} px, lens {lens} (k = 2)",
        markup=False,
    )
    if u_rel["worst"] is not None:
        console.print(
            f"Relative speed uncertainty over the zone (one sigma): median {u_rel['median']:.2%},"
            f" worst {u_rel['worst']:.2%}; residuals {summary['rms_px']:.2f} px rms over {summary['points']} points",
            markup=False,
        )
    console.print("Trusted between the surveyed points; beyond them the uncertainty grows quickly.", markup=False)
    console.print(f"Picture: {summary['px_per_m']:.0f} px/m at the nearest place of the zone", markup=False)
    warning = privacy_warning(summary["px_per_m"])
    if warning is not None:
        console.print(f"Privacy: {warning}", style="bold", markup=False)


def _residual_table(solution: Solution) -> Table:
    import numpy as np

    survey = solution.survey
    off_m = np.hypot(*(solution.plane.camera.ground(survey.pixels) - survey.points_m).T)
    alone_m = np.hypot(*solution.leave_one_out_m.T)
    marks = ["suspect" if name in solution.rejected else "" for name in survey.names]
    return _points_table(zip(survey.names, solution.residuals_px, off_m, alone_m, marks))


def _certificate_table(certificate: Calibration) -> Table:
    import numpy as np

    points = certificate.points
    places = certificate.plane.camera.ground([point.pixel for point in points])
    off_m = np.hypot(*(places - [point.point_m for point in points]).T)
    alone_m = [math.nan if point.leave_one_out_m is None else point.leave_one_out_m for point in points]
    residuals_px = [point.residual_px for point in points]
    return _points_table(zip([point.name for point in points], residuals_px, off_m, alone_m, [""] * len(points)))


def _points_table(rows: Iterable[tuple[str, Any, float, float, str]]) -> Table:
    """Points with click less projection [px], the same on the road, what the others would say of it [m], a remark."""
    from rich.table import Table

    table = Table("point", "Δu px", "Δv px", "off by m", "without it: off by m", "", title="Click less projection")
    for name, (du, dv), off_m, alone_m, remark in rows:
        lengths = (f"{length:.3f}" if math.isfinite(length) else "-" for length in (off_m, alone_m))
        table.add_row(name, f"{du:+.2f}", f"{dv:+.2f}", *lengths, remark)
    return table


def _tape_table(tape: TapeCheck) -> Table:
    from rich.table import Table

    table = Table("row", "taped m", "calibration m", "± m (k = 2)", "off by", title="Taped distances")
    for row, origin in enumerate(tape.tape.origin):
        table.add_row(
            origin,
            f"{tape.tape.distances_m[row]:.2f}",
            f"{tape.measured_m[row]:.2f}",
            f"{2 * tape.sigma_m[row]:.2f}",
            f"{tape.relative_errors[row]:+.1%}",
        )
    return table
