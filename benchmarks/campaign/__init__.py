"""Everything there is to find out on a machine with a GPU, in stages of a few minutes, resumable.

    make gpu                                                  all stages into runs/campaign
    python -m benchmarks.campaign --output DIR --limit 540    the same, with any Python that has torch
    python -m benchmarks.campaign --output DIR --from OLD     goes on where the campaign in OLD stopped
    python -m benchmarks.campaign --total 570 --archive campaign.tgz        in ten minutes, into one file
    python -m benchmarks.keep campaign.tgz                    afterwards: records, README's figures

| module       | holds                                                                   |
|--------------|-------------------------------------------------------------------------|
| limited      | a command within a time limit, which is kept even if it hangs           |
| outcomes     | a pytest plugin: each test's outcome on file as it comes                |
| small_shapes | every kernel on small problems, for compute-sanitizer                   |
| one_case     | one case of a record, for a profiler to watch                           |
| ncu          | Nsight Compute's command line, and the table that it prints             |
| profiled     | the layers with the largest gaps under it                               |
| tools        | where the CUDA toolkit's programs are                                   |
| stages       | what is run, in which order                                             |
| book         | what has been found so far, on file                                     |

It needs nothing built there, and nothing installed but torch, NumPy, pytest with pytest-timeout, typer, rich
and matplotlib: the kernels come as resnet_kernels/_C.abi3.so, compiled anywhere.
"""
