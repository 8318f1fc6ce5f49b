"""Name people as they are named in the north of Viet Nam: family, middle and given parts with their frequencies.

Source:  family names after the usual published frequencies (Nguyễn near two fifths, Trần a tenth, …);
         middle and given names are common ones, weighted by order of magnitude only
"""

from random import Random
from typing import Final, Literal

from adapters.facilities.dice import Wheel

Sex = Literal["male", "female"]

_FAMILY: Final = (
    "Nguyễn:384 Trần:110 Lê:95 Phạm:70 Hoàng:45 Vũ:43 Đỗ:24 Bùi:24 Đặng:22 Ngô:18 Phan:17 Dương:14 Đinh:12 Đào:11 "
    "Trịnh:11 Hà:10 Lưu:9 Đoàn:9 Mai:8 Tạ:7 Chu:7 Lương:7 Cao:6 Tô:6 Phùng:6 Kiều:5 Khuất:4 Thái:3 Quách:3 Lại:3 "
    "Nghiêm:2 Vương:2 Tống:2 Doãn:2 Đàm:2 Lâm:2 Hồ:2"
)
_MIDDLE_MALE: Final = (
    "Văn:300 Đức:80 Minh:70 Quang:60 Hữu:50 Xuân:45 Đình:45 Ngọc:45 Tuấn:35 Anh:35 Trọng:30 Thành:30 Công:25 Duy:25 "
    "Quốc:25 Bá:20 Thế:20 Gia:20 Hoàng:20 Việt:15 Mạnh:15 Tiến:15 Viết:10 Danh:8"
)
_MIDDLE_FEMALE: Final = (
    "Thị:420 Thu:60 Ngọc:60 Thanh:50 Minh:40 Phương:40 Thùy:35 Bích:30 Hồng:30 Kim:25 Thúy:25 Mai:25 Lan:20 Khánh:20 "
    "Diệu:15 Hà:15 Quỳnh:15 Hải:15 Tuyết:10 Như:10 Bảo:10 Thảo:10"
)
_GIVEN_MALE: Final = (
    "Hùng:40 Dũng:40 Tuấn:38 Anh:36 Minh:36 Nam:34 Hải:32 Long:32 Sơn:30 Thắng:30 Cường:30 Hoàng:28 Hiếu:28 Đức:28 "
    "Trung:26 Quân:26 Huy:26 Kiên:24 Khánh:22 Thành:22 Phúc:22 Việt:22 Tùng:22 Bình:20 Hưng:20 Quang:20 Duy:20 Mạnh:18 "
    "Tiến:18 Toàn:18 Linh:16 Đạt:16 Phong:16 Bách:14 Khôi:14 Lâm:14 Vinh:14 Thịnh:14 Nghĩa:12 Tú:12 An:12 Khoa:12 "
    "Chiến:12 Thái:10 Bảo:10 Đông:8 Lộc:8 Tài:8 Hòa:8 Quý:8 Giang:6 Thọ:6 Luân:4 Ước:2"
)
_GIVEN_FEMALE: Final = (
    "Anh:44 Linh:42 Hương:40 Hà:38 Trang:38 Lan:36 Hoa:34 Hằng:32 Mai:32 Thảo:32 Ngọc:30 Phương:30 Nga:28 Hạnh:28 "
    "Thủy:28 Yến:26 Dung:26 Huyền:26 Vân:26 Chi:24 Nhung:24 Loan:22 Hiền:22 Oanh:20 Thu:20 Giang:20 Quỳnh:20 Ly:18 "
    "My:18 Tâm:18 Bích:16 Liên:16 Hồng:16 Nguyệt:14 Ngân:14 Tuyết:14 Xuân:12 Diệp:12 Châu:12 Nhi:12 Hân:10 Thơm:10 "
    "Minh:10 Thúy:10 Hòa:10 Vy:10 Ánh:8 Thoa:8 Lý:8 Mơ:4"
)


FAMILY: Final = Wheel(_FAMILY)
MIDDLE: Final[dict[Sex, Wheel]] = {"male": Wheel(_MIDDLE_MALE), "female": Wheel(_MIDDLE_FEMALE)}
GIVEN: Final[dict[Sex, Wheel]] = {"male": Wheel(_GIVEN_MALE), "female": Wheel(_GIVEN_FEMALE)}


def person_name(random: Random, sex: Sex) -> tuple[str, str, str]:
    """(family, middle, given) in NFC, as written in this file."""
    return FAMILY.turn(random), MIDDLE[sex].turn(random), GIVEN[sex].turn(random)
