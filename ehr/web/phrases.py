"""Every phrase a page says, in Vietnamese and English. Plain words first, the medical word beside it.

A test checks that no template asks for a phrase that is not here, and that none here is unused.
"""

from typing import Final, Literal

Language = Literal["vi", "en"]
LANGUAGES: Final[tuple[Language, ...]] = ("vi", "en")

PHRASES: Final[dict[str, tuple[str, str]]] = {
    "title": ("Sổ sức khỏe của tôi", "My health record"),
    "other_language": ("English", "Tiếng Việt"),
    "skip": ("Đến nội dung", "Skip to content"),
    "born": ("Ngày sinh", "Born"),
    "sex": ("Giới tính", "Sex"),
    "address": ("Địa chỉ", "Address"),
    "card": ("Thẻ bảo hiểm y tế", "Health insurance card"),
    "national_id": ("Số định danh (CCCD)", "Personal identification number"),
    "blood_group": ("Nhóm máu", "Blood group"),
    "weight": ("Cân nặng", "Weight"),
    "height": ("Chiều cao", "Height"),
    "allergies": ("Dị ứng", "Allergies"),
    "problems": ("Bệnh tật", "Health problems"),
    "medicines": ("Thuốc đang dùng hoặc mới dùng", "Current and recent medicines"),
    "immunizations": ("Tiêm chủng", "Vaccinations"),
    "results": ("Kết quả xét nghiệm mới nhất", "Latest test results"),
    "visits": ("Các lần khám, chữa bệnh", "Visits"),
    "none_known": (
        "Chưa nơi nào gửi thông tin này. Nếu thiếu, hãy hỏi nơi bạn đã khám.",
        "No facility has sent this yet. If something is missing, ask where you were treated.",
    ),
    "no_allergies": (
        "Chưa nơi nào gửi thông tin về dị ứng. Điều đó không có nghĩa là bạn không bị dị ứng: hãy báo bác sĩ.",
        "No facility has sent anything about allergies. That does not mean you have none: tell your doctor.",
    ),
    "died": ("Ghi nhận đã mất", "Recorded as deceased"),
    "yes": ("có, không ghi ngày", "yes, no date given"),
    "sex_Nam": ("Nam", "Male"),
    "sex_Nữ": ("Nữ", "Female"),
    "sex_Khác": ("Khác", "Other"),
    "sex_Không rõ": ("Không rõ", "Unknown"),
    "not_told": ("Không ghi", "Not given"),
    "over": ("đã khỏi hoặc không còn theo dõi", "over, or no longer followed"),
    "not_sure": ("chưa xác định", "not confirmed"),
    "older_visits": ("Xem các lần khám trước đó", "Earlier visits"),
    "newest_visits": ("Về các lần khám mới nhất", "Back to the newest visits"),
    "more": (
        "Còn {count} mục khác; bản đầy đủ có ở nơi gửi.",
        "{count} more are not shown here; the facility that sent them has them all.",
    ),
    "unnamed": ("Không ghi tên", "Not named"),
    "no_value": ("không có giá trị", "no value"),
    "no_day": ("Không ghi ngày", "No date"),
    "from": ("Nơi gửi", "From"),
    "value": ("Giá trị", "Value"),
    "normal_range": ("Khoảng tham chiếu", "Reference range"),
    "above": ("↑ cao hơn khoảng tham chiếu", "↑ above the reference range"),
    "below": ("↓ thấp hơn khoảng tham chiếu", "↓ below the reference range"),
    "abnormal": ("khác thường, theo nơi xét nghiệm", "unusual, the laboratory says"),
    "positive": ("dương tính", "positive"),
    "negative": ("âm tính", "negative"),
    "status_preliminary": ("chưa chính thức, có thể thay đổi", "preliminary, may still change"),
    "status_corrected": ("đã được nơi gửi sửa", "corrected by the sender"),
    "status_amended": ("đã được nơi gửi bổ sung", "amended by the sender"),
    "within": ("trong khoảng tham chiếu", "within the reference range"),
    "diagnoses": ("Chẩn đoán", "Diagnoses"),
    "outcome": ("Kết quả điều trị", "Outcome"),
    "tests": ("Xét nghiệm", "Tests"),
    "procedures": ("Dịch vụ, thủ thuật", "Procedures"),
    "who_looked": ("Ai đã xem hồ sơ của tôi", "Who looked at my record"),
    "who_looked_count": (
        "{places} nơi đã mở hồ sơ của bạn trong 30 ngày qua.",
        "{places} places opened your record in the last 30 days.",
    ),
    "who_looked_once": (
        "1 nơi đã mở hồ sơ của bạn trong 30 ngày qua.",
        "1 place opened your record in the last 30 days.",
    ),
    "all_looks": ("Xem tất cả, kể cả trước 30 ngày", "See everybody, also before these 30 days"),
    "older_looks": ("Xem các ngày trước đó", "Earlier days"),
    "no_looks": ("Chưa có ai xem trước ngày này.", "Nobody looked before this day."),
    "back": ("Về sổ sức khỏe của tôi", "Back to my health record"),
    "times": ("{times} lần", "{times} times"),
    "action_R": ("xem", "read"),
    "action_S": ("tìm", "search"),
    "action_C": ("ghi mới", "add"),
    "action_U": ("cập nhật", "change"),
    "action_D": ("xóa", "delete"),
    "action_E": ("xem hoặc tổng hợp", "view or summarise"),
    "refused_look": ("bị từ chối", "refused"),
    "another_citizen": ("một người dân khác", "another citizen"),
    "purpose_TREAT": ("khám, chữa bệnh", "care"),
    "purpose_HPAYMT": ("thanh toán bảo hiểm", "insurance payment"),
    "purpose_PATRQT": ("bạn yêu cầu", "your request"),
    "purpose_HOPERAT": ("vận hành hệ thống", "operations"),
    "purpose_BTG": ("cấp cứu", "emergency"),
    "you": ("Bạn", "You"),
    "the_city": ("Hệ thống thành phố", "The city's system"),
    "download": ("Tải bản tóm tắt (IPS, FHIR)", "Download the summary (IPS, FHIR)"),
    "as_of": ("Tính đến", "As of"),
    "signed_out": ("Cần đăng nhập", "Please sign in"),
    "signed_out_text": (
        "Mở trang này từ ứng dụng định danh. Đường dẫn chỉ dùng được một lần và hết hạn sau ít phút.",
        "Open this page from the identity app. A link works once and expires after a few minutes.",
    ),
    "operators": ("Vận hành", "Operations"),
    "operator_signed_out_text": (
        "Lấy đường dẫn bằng lệnh ehr console TÊN trên máy chủ. Đường dẫn chỉ dùng được một lần, trong mười phút.",
        "Get a link with the command ehr console NAME on the server. A link works once, within ten minutes.",
    ),
    "unsure": (
        "Kết quả nằm ngoài khoảng tham chiếu không có nghĩa là bạn bị bệnh. Hãy hỏi bác sĩ của bạn.",
        "A result outside the range does not mean you are ill. Ask your doctor.",
    ),
}


def phrase(key: str, language: Language) -> str:
    """The phrase of a key in a language; an unknown key is a programmer's error."""
    vietnamese, english = PHRASES[key]
    return vietnamese if language == "vi" else english
