"""The demonstration behind ``resnet-kernels demo`` and the checks behind ``resnet-kernels verify``.

| module     | holds                                                                    |
|------------|--------------------------------------------------------------------------|
| photograph | an image file as a network's input                                       |
| networks   | our network, torchvision's and the oracle's, with the same weights       |
| record     | which operator ran where, how often and how long                         |
| compare    | our kernels and PyTorch's own beside float64, unit by unit and as a whole |
| counters   | what the simulator's checked build counts on sampled layers              |
| run        | all of these, from photograph to result                                  |
| show       | results on the terminal                                                  |
| plots      | the report's plots                                                       |
| report     | results as one HTML file                                                 |
| verify     | every operator and dtype against the error budget                        |
"""
