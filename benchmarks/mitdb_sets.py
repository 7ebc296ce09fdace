"""The two halves of the MIT-BIH Arrhythmia Database that are used between patients (de Chazal 2004); paced records are in neither."""

_DS1 = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
_DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"
DS1, DS2 = _DS1.split(), _DS2.split()
