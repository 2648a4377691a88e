"""What runs at once fits."""

from hypothesis import given
from hypothesis import strategies as st

from lightex.core.taxonomy import Resources
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.leases import Pool

needs = st.builds(Resources, cpus=st.sampled_from([0.1, 0.5, 1, 2]), memory=st.sampled_from([None, 10, 60]),
                  gpus=st.integers(0, 2))  # fmt: skip


@given(st.lists(st.tuples(needs, st.booleans()), max_size=30))
def test_leases_never_exceed_the_capacity_and_all_comes_back(steps):
    pool, held = Pool(Capacity(4, 100, lambda: ("0", "1", "2"))), []
    for wanted, give_back in steps:
        lease = pool.lease(wanted)
        if lease:
            held.append(lease)
        elif not pool.short_of(wanted):
            raise AssertionError("refused though free")
        if give_back and held:
            pool.release(held.pop(0))
        assert sum(lease.cpus for lease in held) <= 4 + 1e-9
        assert sum(lease.memory for lease in held) <= 100
        gpus = [gpu for lease in held for gpu in lease.gpus]
        assert len(gpus) == len(set(gpus))
    for lease in held:
        pool.release(lease)
    assert pool.lease(Resources(cpus=4, memory=100, gpus=3))


def test_ten_tenths_fit_in_one_cpu():
    pool = Pool(Capacity(1, 0, tuple))
    assert all(pool.lease(Resources(cpus=0.1)) for _ in range(10))
    assert pool.short_of(Resources(cpus=0.1)) == "a cpu (1 of 1 in use)"


def test_what_can_never_be_given_is_told():
    capacity = Capacity(2, 1 << 30, lambda: ("0",))
    assert capacity.lacks(Resources(cpus=3)) == "needs 3 cpus, there are 2"
    assert capacity.lacks(Resources(memory="2GiB")) == "needs 2 GiB of memory, there are 1 GiB"
    assert capacity.lacks(Resources(gpus=2)) == "needs 2 GPUs, there are 1"
    assert capacity.lacks(Resources(cpus=2, memory="1GiB", gpus=1)) is None
