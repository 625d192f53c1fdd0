"""Which target each form of instruction needs, as ptxas says it.

    floors.py PTXAS... < crates/emulator/tests/kernels/floors.txt > new.txt

Reads lines `target | instruction;` (what stands before the bar is of no account) and writes them with the least target for which
the instruction assembles, `none` where it is none of these. Of several ptxas, a target is asked of all that know it, and they must agree: sm_70 is
known up to CUDA 12.9.
"""
import subprocess
import sys

TARGETS = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a"]
KERNEL = """.version 8.8
.target {target}
.address_size 64
.visible .entry k(.param .u64 k_param_0)
{{
.reg .pred %p<8>; .reg .b8 %b<4>; .reg .b16 %h<16>; .reg .b32 %r<64>; .reg .b64 %d<32>; .reg .f32 %f<64>; .reg .f64 %w<16>; {wide}
{form}
ret;
}}
"""


def assembles(ptxas, target, form):
    wide = ".reg .b128 %q<4>;" if "%q" in form else ""
    text = KERNEL.format(target=target, form=form, wide=wide)
    command = [ptxas, "-arch", target, "-o", "/dev/null", "/dev/stdin"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if "is not defined for option" in done.stderr:
        return None
    return done.returncode == 0


def floor(tools, form):
    verdicts = []
    for target in TARGETS:
        answers = {assembles(tool, target, form) for tool in tools} - {None}
        if len(answers) != 1:
            sys.exit(f"{form} for {target}: {answers or 'no ptxas knows it'}")
        verdicts.append(answers.pop())
    least = verdicts.index(True) if True in verdicts else len(TARGETS)
    if not all(verdicts[least:]):
        sys.exit(f"{form}: {dict(zip(TARGETS, verdicts))}")
    return (TARGETS + ["none"])[least]


for line in sys.stdin:
    instruction = line.split(" | ", 1)[-1]
    print(floor(sys.argv[1:], instruction.strip()), "|", instruction.strip(), flush=True)
