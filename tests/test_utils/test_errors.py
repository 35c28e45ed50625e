import pytest
from torch.utils.data import DataLoader

from mmdense.apis.running import exit_on_user_error
from mmdense.datasets.depth.errors import DepthFileError
from mmdense.utils.errors import UserError, UserValueError, message_of


class _Bad:
    def __init__(self, text):
        self.text = text

    def __len__(self):
        return 2

    def __getitem__(self, index):
        try:
            raise OSError('inner')
        except OSError as error:
            raise DepthFileError(self.text) from error


@pytest.mark.parametrize('text', ['a.png: broken', 'a.png: two\nlines: b'])
@pytest.mark.parametrize('workers', [0, 1])
def test_message__of_a_worker_is_that_of_the_error(text, workers, capsys):
    def read():
        next(iter(DataLoader(_Bad(text), num_workers=workers)))

    with pytest.raises(DepthFileError) as caught:
        read()
    # otherwise the test shows nothing
    assert ('Traceback' in str(caught.value)) is (workers > 0)
    assert message_of(caught.value) == text
    with pytest.raises(SystemExit):
        exit_on_user_error(read)()
    assert capsys.readouterr().err == f'error: {text}\n'


def test_message__others_stay_as_they_are():
    for text in ('no file', 'Caught up: x', 'a\nb.C: d'):
        assert message_of(UserError(text)) == text
        assert message_of(UserValueError(text)) == text
