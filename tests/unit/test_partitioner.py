"""Keys go where Kafka's own clients put them, hashed alone or as columns."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from streamflow.edges.partitioner import FEW, default_partition, default_partitions

# Hashes of `org.apache.kafka.common.utils.Utils.murmur2`, from Kafka's own test of it, made
# positive as its partitioner does.
KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_known_hashes() -> None:
    everywhere = 2**31
    wanted = [code & 0x7FFFFFFF for code in KNOWN.values()]
    assert [default_partition(key, everywhere) for key in KNOWN] == wanted
    many = list(KNOWN) * FEW
    assert default_partitions(many, everywhere) == wanted * FEW


@given(st.lists(st.binary(max_size=40), min_size=FEW, max_size=2 * FEW), st.integers(1, 50))
def test_columns_agree_with_the_client(keys: list[bytes], partitions: int) -> None:
    everything = list(range(partitions))
    client = DefaultPartitioner()
    wanted = [client(key, everything, everything) for key in keys]
    assert default_partitions(keys, partitions) == wanted
    assert [default_partition(key, partitions) for key in keys] == wanted
