"""The learned verifier of the QRS detector: how it was trained, to be run again.

    python -m edge_train.qrs train --data ../shared/data/mitdb --seeds 0,1,2,3,4 --out /tmp/verifiers
    python -m edge_train.qrs ship --data ../shared/data/mitdb --from /tmp/verifiers --to ../edge_agent/signal/qrs_weights.json

needs numpy, scipy, wfdb and Edge Agent with its compiled kernel: what is learned are the decisions of the very detector
that runs, on its own candidates and in its own state.
"""
