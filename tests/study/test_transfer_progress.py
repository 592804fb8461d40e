"""The progress of a transfer goes on within a surrogate and a victim, in proportion to their work."""

from ntklens.study import Spec, run


def test_the_share_grows_within_each_surrogate_and_each_victim(tmp_path):
    told = []
    spec = Spec.parse(
        {
            "kind": "transfer",
            "title": "Transfer",
            "data": {"classes": [2, 4], "train": 60, "test": 20},
            "attack": {"steps": 10, "curve": []},
            "transfer": {
                "surrogates": ["ntk:fc1"],
                "victims": ["fc2"],
                "seeds": 2,
                "sample": 40,
                "width": 8,
                "epochs": 2,
            },
        }
    )
    run(spec, tmp_path / "run", watch=lambda stage, share: told.append(share) if stage == "transfer" else None)
    assert told == sorted(told)
    assert told[-1] == 1
    # The one surrogate takes the first 0.4; its ten steps of the attack take nearly all of that.
    steps = sorted({round(share, 4) for share in told if 0.02 < share <= 0.4})
    assert len(steps) >= 9
    # Each of two victims is trained in two epochs and attacked in ten steps.
    assert len({round(share, 4) for share in told if share > 0.4}) >= 20
